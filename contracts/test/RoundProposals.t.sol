// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Federation} from "./Federation.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Roles} from "../Roles.sol";

contract RoundProposalsTest is Federation {
    uint256 private _round;

    function setUp() public override {
        super.setUp();
        _round = _openWithRecords(3);
        vm.warp(DEADLINE + 1);
    }

    function testAProposalIsRecordedWithItsVerdicts() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        bytes32 root = MerkleTree.rootOf(_leaves(verdicts));
        vm.expectEmit(true, true, false, true, address(ledger));
        emit IRoundLedger.ModelProposed(_round, 1, MODEL, MODEL_BLOB, root);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            vm.expectEmit(true, true, true, true, address(ledger));
            emit IRoundLedger.VerdictRecorded(
                _round,
                1,
                verdicts[i].hospital,
                verdicts[i].outcome,
                verdicts[i].reason,
                verdicts[i].score,
                verdicts[i].threshold,
                verdicts[i].content
            );
        }
        _proposeAs(aggregator, verdicts);
        IRoundLedger.Round memory state = ledger.roundOf(_round);
        _assert(state.phase == IRoundLedger.Phase.Proposed && state.proposal == 1, "proposed");
        _assert(state.model == MODEL && state.modelBlob == MODEL_BLOB, "model");
        _assert(state.verdicts == root, "root of verdicts");
    }

    function testEveryVerdictHasAProof() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        _proposeAs(aggregator, verdicts);
        bytes32[] memory leaves = _leaves(verdicts);
        bytes32 root = ledger.roundOf(_round).verdicts;
        for (uint256 i = 0; i < leaves.length; ++i)
            _assert(
                MerkleProof.verify(MerkleTree.proofOf(leaves, i), root, leaves[i]),
                "verdict proven"
            );
    }

    function testAFullRoundIsProposedBeforeItsDeadline() public {
        vm.warp(NOW);
        IRoundLedger.Verdict[] memory verdicts = _verdicts(4);
        _expectProposalRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerStillCollecting.selector,
                _round,
                DEADLINE
            ),
            verdicts
        );
        _relay(_record(_round, 3), hospitalKeys[3]);
        _proposeAs(aggregator, verdicts);
        _assert(ledger.roundOf(_round).proposal == 1, "proposed");
    }

    function testTheLastSecondStillCollects() public {
        vm.warp(DEADLINE);
        _expectProposalRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerStillCollecting.selector,
                _round,
                DEADLINE
            ),
            _mixed()
        );
    }

    function testOnlyTheRoundsActiveAggregatorProposes() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerNotAggregator.selector,
                _round,
                aggregator,
                stranger
            )
        );
        _proposeAs(stranger, verdicts);
        _suspend(aggregator);
        _expectProposalRefused(_suspendedParty(aggregator), verdicts);
    }

    function testNothingIsProposedWithoutARecord() public {
        vm.prank(steward);
        ledger.abort(_round, "empty one next");
        vm.warp(NOW);
        _round = _open();
        vm.warp(DEADLINE + 1);
        _expectProposalRefused(
            _unexpected(_round, IRoundLedger.Phase.Open),
            new IRoundLedger.Verdict[](0)
        );
    }

    function testAnUnknownRoundIsRefused() public {
        _round = 9;
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        _expectProposalRefused(_unknownRound(9), verdicts);
        vm.expectRevert(_unknownRound(9));
        ledger.attest(9, 1, witnesses[0], "");
        vm.expectRevert(_unknownRound(9));
        ledger.dispute(9, 1, MODEL, MODEL, MODEL);
    }

    function testAnUndisputedProposalStands() public {
        _proposeAs(aggregator, _mixed());
        _expectProposalRefused(_unexpected(_round, IRoundLedger.Phase.Proposed), _mixed());
    }

    function testEmptyDigestsAreRefusedByName() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        vm.expectRevert(_emptyDigest("model"));
        vm.prank(aggregator);
        ledger.propose(_round, bytes32(0), MODEL_BLOB, verdicts);
        vm.expectRevert(_emptyDigest("modelBlob"));
        vm.prank(aggregator);
        ledger.propose(_round, MODEL, bytes32(0), verdicts);
    }

    function testEveryRecordNeedsAVerdict(uint256 count) public {
        count = _bound(count, 0, 4);
        if (count == 3) return;
        _expectProposalRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerVerdictMissing.selector,
                _round,
                3,
                count
            ),
            _verdicts(count)
        );
    }

    function testVerdictsAscendWithoutRepetition() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        verdicts[1].hospital = hospitals[0];
        _expectProposalRefused(_notAscending(hospitals[0], hospitals[0]), verdicts);
        verdicts[0].hospital = hospitals[1];
        _expectProposalRefused(_notAscending(hospitals[1], hospitals[0]), verdicts);
    }

    function testAVerdictWithoutARecordIsRefused() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        verdicts[2].hospital = hospitals[3];
        _expectProposalRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerNoRecord.selector,
                _round,
                hospitals[3]
            ),
            verdicts
        );
    }

    function testAVerdictHasAReasonExactlyWhereItIsNotAccepted(
        uint8 outcome,
        uint8 reason
    ) public {
        IRoundLedger.Verdict[] memory verdicts = _verdicts(3);
        verdicts[2].outcome = IRoundLedger.Outcome(outcome % 3);
        verdicts[2].reason = reason;
        bool isAccepted = verdicts[2].outcome == IRoundLedger.Outcome.Accepted;
        if (isAccepted != (reason == 0))
            vm.expectRevert(
                abi.encodeWithSelector(
                    IRoundLedger.RoundLedgerInvalidVerdict.selector,
                    hospitals[2]
                )
            );
        _proposeAs(aggregator, verdicts);
    }

    function testEachOutcomeWithAWrongReasonIsRefused() public {
        testAVerdictHasAReasonExactlyWhereItIsNotAccepted(0, 1);
        testAVerdictHasAReasonExactlyWhereItIsNotAccepted(1, 0);
        testAVerdictHasAReasonExactlyWhereItIsNotAccepted(2, 0);
    }

    function testTooFewKeptUpdatesAreRefused() public {
        IRoundLedger.Verdict[] memory verdicts = _mixed();
        (verdicts[1].outcome, verdicts[1].reason) = (IRoundLedger.Outcome.Rejected, 1);
        _expectProposalRefused(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerTooFewUpdates.selector, 2, 1),
            verdicts
        );
    }

    function testTheKthAttestationMakesARoundFinal() public {
        _proposeAs(aggregator, _mixed());
        bytes memory signature = _attestation(_round, 1, witnessKeys[0]);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IRoundLedger.ProposalAttested(_round, 1, witnesses[0], signature);
        vm.prank(stranger);
        ledger.attest(_round, 1, witnesses[0], signature);
        _assert(ledger.roundOf(_round).phase == IRoundLedger.Phase.Proposed, "not final yet");

        vm.expectEmit(true, true, false, true, address(ledger));
        emit IRoundLedger.RoundFinalized(_round, TASK, MODEL, MODEL_BLOB);
        _attest(_round, 1, 2);
        _assert(ledger.roundOf(_round).phase == IRoundLedger.Phase.Final, "final");
        _assert(ledger.activeRound(TASK) == 0, "no active round");
        (bytes32 model, bytes32 modelBlob, uint256 last) = ledger.lastFinal(TASK);
        _assert(model == MODEL && modelBlob == MODEL_BLOB && last == _round, "last final");
    }

    function testAFinalRoundTakesNoWord() public {
        _proposeAs(aggregator, _mixed());
        _attest(_round, 1, 0);
        _attest(_round, 1, 1);
        bytes memory refusal = _unexpected(_round, IRoundLedger.Phase.Final);
        vm.expectRevert(refusal);
        ledger.attest(_round, 1, witnesses[2], "");
        vm.expectRevert(refusal);
        _dispute(_round, 1, 2);
        _expectProposalRefused(refusal, _mixed());
    }

    function testOnlyActiveWitnessesOfTheRoundSpeak() public {
        _proposeAs(aggregator, _mixed());
        _enroll(stranger, Roles.WITNESS);
        bytes memory refusal = abi.encodeWithSelector(
            IRoundLedger.RoundLedgerNotWitness.selector,
            _round,
            stranger
        );
        vm.expectRevert(refusal);
        ledger.attest(_round, 1, stranger, "");
        vm.expectRevert(refusal);
        vm.prank(stranger);
        ledger.dispute(_round, 1, bytes32(0), bytes32(0), MODEL);

        _suspend(witnesses[0]);
        vm.expectRevert(_suspendedParty(witnesses[0]));
        ledger.attest(_round, 1, witnesses[0], "");
        vm.expectRevert(_suspendedParty(witnesses[0]));
        _dispute(_round, 1, 0);
    }

    function testAWitnessSpeaksOnceForAProposal() public {
        _proposeAs(aggregator, _mixed());
        _attest(_round, 1, 0);
        bytes memory signature = _attestation(_round, 1, witnessKeys[0]);
        vm.expectRevert(_alreadySpoken(1, 0));
        ledger.attest(_round, 1, witnesses[0], signature);
        vm.expectRevert(_alreadySpoken(1, 0));
        _dispute(_round, 1, 0);
        _dispute(_round, 1, 1);
        vm.expectRevert(_alreadySpoken(1, 1));
        _dispute(_round, 1, 1);
    }

    function testAForgedAttestationIsRefused() public {
        _proposeAs(aggregator, _mixed());
        bytes memory signature = _attestation(_round, 1, witnessKeys[1]);
        vm.expectRevert(_badSignature(witnesses[1]));
        ledger.attest(_round, 1, witnesses[0], signature);
        vm.expectRevert(_badSignature(address(0)));
        ledger.attest(_round, 1, witnesses[0], "");
    }

    function testAnotherProposalNumberIsRefused(uint32 proposal) public {
        if (proposal == 1) ++proposal;
        _proposeAs(aggregator, _mixed());
        bytes memory refusal = abi.encodeWithSelector(
            IRoundLedger.RoundLedgerProposalMismatch.selector,
            1,
            proposal
        );
        vm.expectRevert(refusal);
        ledger.attest(_round, proposal, witnesses[0], "");
        vm.expectRevert(refusal);
        _dispute(_round, proposal, 0);
    }

    function testADisputeBarsTheProposal() public {
        _proposeAs(aggregator, _mixed());
        _attest(_round, 1, 0);
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IRoundLedger.ProposalDisputed(
            _round,
            1,
            witnesses[1],
            bytes32(0),
            bytes32(0),
            keccak256("evidence")
        );
        _dispute(_round, 1, 1);
        _assert(ledger.roundOf(_round).disputed, "disputed");
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerProposalDisputed.selector,
                _round,
                1
            )
        );
        ledger.attest(_round, 1, witnesses[2], "");
        _dispute(_round, 1, 2);
    }

    function testADisputeMustDifferInModelOrVerdicts() public {
        _proposeAs(aggregator, _mixed());
        bytes32 root = ledger.roundOf(_round).verdicts;
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerNothingToDispute.selector, _round)
        );
        vm.prank(witnesses[0]);
        ledger.dispute(_round, 1, MODEL, root, MODEL);
        vm.prank(witnesses[0]);
        ledger.dispute(_round, 1, BASE_MODEL, root, MODEL);
        vm.prank(witnesses[1]);
        ledger.dispute(_round, 1, MODEL, BASE_MODEL, MODEL);
    }

    function testANewProposalBeginsAfreshAfterADispute() public {
        _proposeAs(aggregator, _mixed());
        _attest(_round, 1, 0);
        _dispute(_round, 1, 1);
        _proposeAs(aggregator, _verdicts(3));
        IRoundLedger.Round memory state = ledger.roundOf(_round);
        _assert(state.proposal == 2 && state.attestations == 0 && !state.disputed, "afresh");
        _attest(_round, 2, 0);
        _attest(_round, 2, 1);
        _assert(ledger.roundOf(_round).phase == IRoundLedger.Phase.Final, "final");
    }

    function testASignatureUnderAnOlderProposalIsWorthless() public {
        _proposeAs(aggregator, _mixed());
        bytes memory signature = _attestation(_round, 1, witnessKeys[0]);
        _dispute(_round, 1, 1);
        _proposeAs(aggregator, _mixed());
        try ledger.attest(_round, 2, witnesses[0], signature) {
            _assert(false, "an older signature was taken");
        } catch (bytes memory refusal) {
            _assert(
                bytes4(refusal) == IRoundLedger.RoundLedgerBadSignature.selector,
                "bad signature"
            );
        }
    }

    function testNobodySpeaksBeforeAProposal() public {
        bytes memory refusal = _unexpected(_round, IRoundLedger.Phase.Collecting);
        vm.expectRevert(refusal);
        ledger.attest(_round, 0, witnesses[0], "");
        vm.expectRevert(refusal);
        _dispute(_round, 0, 0);
    }

    function _expectProposalRefused(
        bytes memory refusal,
        IRoundLedger.Verdict[] memory verdicts
    ) private {
        vm.expectRevert(refusal);
        _proposeAs(aggregator, verdicts);
    }

    function _proposeAs(address account, IRoundLedger.Verdict[] memory verdicts) private {
        vm.prank(account);
        ledger.propose(_round, MODEL, MODEL_BLOB, verdicts);
    }

    /// @dev One accepted, one clipped, one rejected.
    function _mixed() private view returns (IRoundLedger.Verdict[] memory verdicts) {
        verdicts = _verdicts(3);
        (verdicts[1].outcome, verdicts[1].reason) = (IRoundLedger.Outcome.Clipped, 32);
        (verdicts[2].outcome, verdicts[2].reason) = (IRoundLedger.Outcome.Rejected, 13);
    }

    function _leaves(
        IRoundLedger.Verdict[] memory verdicts
    ) private view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](verdicts.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            bytes memory content = abi.encode(
                keccak256("fedwitness.verdict.v1"),
                _round,
                verdicts[i].hospital,
                uint8(verdicts[i].outcome),
                verdicts[i].reason,
                verdicts[i].score,
                verdicts[i].threshold,
                verdicts[i].content
            );
            leaves[i] = keccak256(abi.encode(keccak256(content)));
        }
    }

    function _alreadySpoken(
        uint32 proposal,
        uint256 witness
    ) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerAlreadySpoken.selector,
                _round,
                proposal,
                witnesses[witness]
            );
    }

    function _badSignature(address recovered) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBadSignature.selector,
                witnesses[0],
                recovered
            );
    }

    function _notAscending(address last, address next) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerVerdictsNotAscending.selector,
                last,
                next
            );
    }
}
