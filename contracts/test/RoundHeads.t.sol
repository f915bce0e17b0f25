// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {Roles} from "../Roles.sol";

contract RoundHeadsTest is Federation {
    uint64 private constant _FINAL_AT = 1000;
    uint256 private constant _KNOWN_BLOCKS = 256;

    uint256 private _round;

    function setUp() public override {
        super.setUp();
        vm.roll(_FINAL_AT);
        _round = _finish();
        vm.roll(_FINAL_AT + 1);
    }

    function testAWitnessSignsTheHeadOfAFinalRound() public {
        IRoundLedger.LedgerHead memory head = _head();
        bytes memory signature = _signed(head, witnessKeys[0]);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IRoundLedger.HeadCosigned(
            _round,
            witnesses[0],
            head.number,
            head.hash,
            head.blocks,
            head.history,
            signature
        );
        vm.prank(stranger);
        ledger.cosign(head, witnesses[0], signature);
    }

    function testEachWitnessCosignsOnce() public {
        IRoundLedger.LedgerHead memory head = _head();
        bytes memory again = _signed(head, witnessKeys[0]);
        _cosign(head, 0);
        _cosign(head, 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerAlreadyCosigned.selector,
                _round,
                witnesses[0]
            )
        );
        ledger.cosign(head, witnesses[0], again);
    }

    function testRoundsAreCosignedApart() public {
        _cosign(_head(), 0);
        uint256 first = _round;
        vm.warp(NOW);
        IRoundLedger.Terms memory terms = _terms();
        (terms.task, terms.quorum) = ("fractures", 1);
        _round = _open(terms);
        for (uint256 i = 0; i < 2; ++i) _relay(_record(_round, i), hospitalKeys[i]);
        _propose(_round, 2);
        _attest(_round, 1, 0);
        _assert(_round != first, "another round");
        _cosign(_head(), 0);
    }

    function testCosigningLeavesAWitnessItsWord() public {
        _cosign(_head(), 0);
        IRoundLedger.Round memory state = ledger.roundOf(_round);
        _assert(state.phase == IRoundLedger.Phase.Final, "final");
        _assert(state.proposal == 1 && state.attestations == 2, "as it was");
    }

    function testOnlyAFinalRoundHasAHead() public {
        IRoundLedger.LedgerHead memory head = _head();
        head.round = 9;
        vm.expectRevert(_unknownRound(9));
        ledger.cosign(head, witnesses[0], "");

        vm.warp(NOW);
        IRoundLedger.Terms memory terms = _terms();
        terms.task = "fractures";
        head.round = _open(terms);
        vm.expectRevert(_unexpected(head.round, IRoundLedger.Phase.Open));
        ledger.cosign(head, witnesses[0], "");
        for (uint256 i = 0; i < 2; ++i) _relay(_record(head.round, i), hospitalKeys[i]);
        _propose(head.round, 2);
        _attest(head.round, 1, 0);
        vm.expectRevert(_unexpected(head.round, IRoundLedger.Phase.Proposed));
        ledger.cosign(head, witnesses[0], "");
        vm.prank(steward);
        ledger.abort(head.round, "holiday");
        vm.expectRevert(_unexpected(head.round, IRoundLedger.Phase.Aborted));
        ledger.cosign(head, witnesses[0], "");
    }

    function testOnlyActiveWitnessesOfTheRoundCosign() public {
        IRoundLedger.LedgerHead memory head = _head();
        _enroll(stranger, Roles.WITNESS);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerNotWitness.selector,
                _round,
                stranger
            )
        );
        ledger.cosign(head, stranger, "");
        _suspend(witnesses[0]);
        vm.expectRevert(_suspendedParty(witnesses[0]));
        ledger.cosign(head, witnesses[0], "");
    }

    function testABlockThatIsNotPastIsRefused(uint64 number) public {
        IRoundLedger.LedgerHead memory head = _head();
        head.number = uint64(_bound(number, block.number, type(uint64).max));
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBlockNotPast.selector,
                block.number,
                head.number
            )
        );
        ledger.cosign(head, witnesses[0], "");
    }

    function testTheBlockInTheMakingIsNotPast() public {
        testABlockThatIsNotPastIsRefused(0);
    }

    function testAnotherHashThanTheChainKnowsIsRefused() public {
        IRoundLedger.LedgerHead memory head = _head();
        bytes32 known = head.hash;
        _assert(known != 0, "the chain knows the block");
        head.hash = keccak256("another branch");
        bytes memory signature = _signed(head, witnessKeys[0]);
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBlockMismatch.selector,
                head.number,
                known,
                head.hash
            )
        );
        ledger.cosign(head, witnesses[0], signature);
    }

    function testABlockThatTheChainKnowsNoMoreIsTakenAtTheWitnesssWord() public {
        IRoundLedger.LedgerHead memory head = _head();
        vm.roll(uint256(head.number) + _KNOWN_BLOCKS + 1);
        _assert(blockhash(head.number) == 0, "forgotten");
        _cosign(head, 0);
    }

    function testAForgedSignatureIsRefused() public {
        IRoundLedger.LedgerHead memory head = _head();
        bytes memory signature = _signed(head, witnessKeys[1]);
        vm.expectRevert(_badSignature(witnesses[1]));
        ledger.cosign(head, witnesses[0], signature);
        vm.expectRevert(_badSignature(address(0)));
        ledger.cosign(head, witnesses[0], "");
    }

    function testASignatureIsBoundToEveryField() public {
        IRoundLedger.LedgerHead memory head = _head();
        bytes memory signature = _signed(head, witnessKeys[0]);
        IRoundLedger.LedgerHead memory other = _head();
        other.number = head.number - 1;
        other.hash = blockhash(other.number);
        _assertRefused(other, signature);
        other = _head();
        ++other.blocks;
        _assertRefused(other, signature);
        other = _head();
        other.history = keccak256("another history");
        _assertRefused(other, signature);
        ledger.cosign(head, witnesses[0], signature);
    }

    function _assertRefused(
        IRoundLedger.LedgerHead memory head,
        bytes memory signature
    ) private {
        try ledger.cosign(head, witnesses[0], signature) {
            _assert(false, "another head than the signed one was taken");
        } catch (bytes memory refusal) {
            _assert(
                bytes4(refusal) == IRoundLedger.RoundLedgerBadSignature.selector,
                "bad signature"
            );
        }
    }

    function _cosign(IRoundLedger.LedgerHead memory head, uint256 witness) private {
        bytes memory signature = _signed(head, witnessKeys[witness]);
        ledger.cosign(head, witnesses[witness], signature);
    }

    function _head() private view returns (IRoundLedger.LedgerHead memory) {
        return
            IRoundLedger.LedgerHead({
                round: _round,
                number: _FINAL_AT,
                hash: blockhash(_FINAL_AT),
                blocks: 12,
                history: keccak256("history")
            });
    }

    function _signed(
        IRoundLedger.LedgerHead memory head,
        uint256 key
    ) private view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    // solhint-disable-next-line max-line-length
                    "LedgerHead(uint256 round,uint64 number,bytes32 hash,uint64 blocks,bytes32 history)"
                ),
                head.round,
                head.number,
                head.hash,
                head.blocks,
                head.history
            )
        );
        return _sign(key, structHash);
    }

    function _badSignature(address signer) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBadSignature.selector,
                witnesses[0],
                signer
            );
    }
}
