// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {Roles} from "../Roles.sol";

contract RoundsTest is Federation {
    function testOpeningFixesTheTerms() public {
        IRoundLedger.Terms memory terms = _terms();
        vm.expectEmit(true, true, true, true, address(ledger));
        emit IRoundLedger.RoundOpened(1, TASK, aggregator, terms);
        _assert(_open(terms) == 1, "round 1");

        IRoundLedger.Round memory expected = IRoundLedger.Round({
            phase: IRoundLedger.Phase.Open,
            purpose: PURPOSE,
            quorum: 2,
            attestations: 0,
            disputed: false,
            minUpdates: 2,
            maxUpdates: 4,
            updates: 0,
            proposal: 0,
            deadline: DEADLINE,
            aggregator: aggregator,
            task: TASK,
            baseModel: BASE_MODEL,
            schema: keccak256("schema"),
            rule: sha256(bytes(terms.rule)),
            model: bytes32(0),
            modelBlob: bytes32(0),
            verdicts: bytes32(0)
        });
        _assert(
            keccak256(abi.encode(ledger.roundOf(1))) == keccak256(abi.encode(expected)),
            "all that was opened"
        );
        _assert(ledger.roundCount() == 1 && ledger.activeRound(TASK) == 1, "active");
    }

    function testTheRegistriesAndTheBlockOfDeploymentAreKept() public {
        vm.roll(77);
        IRoundLedger other = IRoundLedger(
            _deploy("RoundLedger", abi.encode(participants, datasets))
        );
        _assert(address(other.participants()) == address(participants), "participants");
        _assert(address(other.datasets()) == address(datasets), "datasets");
        _assert(other.deployedAt() == 77, "deployed at block 77");
    }

    function testAnUnknownRoundIsRefused(uint256 round) public {
        vm.expectRevert(_unknownRound(round));
        ledger.roundOf(round);
        vm.expectRevert(_unknownRound(round));
        vm.prank(steward);
        ledger.abort(round, "none");
    }

    function testOnlyAnActiveAggregatorOpens() public {
        IRoundLedger.Terms memory terms = _terms();
        vm.expectRevert(_unknownParty(stranger, Roles.AGGREGATOR));
        vm.prank(stranger);
        ledger.openRound(terms);
        _suspend(aggregator);
        vm.expectRevert(_suspendedParty(aggregator));
        _open();
    }

    function testFaultyTextsAndDigestsAreRefusedByName() public {
        IRoundLedger.Terms memory terms = _terms();
        terms.task = "";
        _expectInvalid("task", terms);
        terms.task = _text(65);
        _expectInvalid("task", terms);
        terms = _terms();
        terms.purpose = 48;
        _expectInvalid("purpose", terms);
        terms = _terms();
        terms.baseModel = 0;
        _expectInvalid("baseModel", terms);
        terms = _terms();
        terms.baseBlob = 0;
        _expectInvalid("baseBlob", terms);
        terms = _terms();
        terms.schema = 0;
        _expectInvalid("schema", terms);
        terms = _terms();
        terms.rule = "";
        _expectInvalid("rule", terms);
        terms.rule = _text(1025);
        _expectInvalid("rule", terms);
    }

    function testFaultyNumbersAreRefusedByName() public {
        IRoundLedger.Terms memory terms = _terms();
        terms.minUpdates = 0;
        _expectInvalid("minUpdates", terms);
        terms.minUpdates = 5;
        _expectInvalid("minUpdates", terms);
        terms = _terms();
        terms.maxUpdates = 129;
        _expectInvalid("maxUpdates", terms);
        terms = _terms();
        terms.quorum = 0;
        _expectInvalid("quorum", terms);
        terms = _terms();
        terms.deadline = uint64(NOW);
        _expectInvalid("deadline", terms);
        terms.deadline = uint64(NOW) + 30 days + 1;
        _expectInvalid("deadline", terms);
    }

    function testTheBoundsThemselvesAreTaken() public {
        IRoundLedger.Terms memory terms = _terms();
        terms.task = _text(64);
        terms.purpose = 47;
        terms.rule = _text(1024);
        terms.minUpdates = 128;
        terms.maxUpdates = 128;
        terms.quorum = 3;
        terms.deadline = uint64(NOW) + 30 days;
        _open(terms);
    }

    function testFaultyWitnessesAreRefused() public {
        IRoundLedger.Terms memory terms = _terms();
        terms.quorum = 4;
        _expectInvalid("witnesses", terms);
        terms = _terms();
        terms.witnesses = new address[](33);
        _expectInvalid("witnesses", terms);
        terms = _terms();
        terms.witnesses[1] = terms.witnesses[0];
        _expectInvalid("witnesses", terms);
        terms = _terms();
        terms.witnesses[2] = address(type(uint160).max);
        vm.expectRevert(_unknownParty(terms.witnesses[2], Roles.WITNESS));
        _open(terms);
        _suspend(witnesses[1]);
        vm.expectRevert(_suspendedParty(witnesses[1]));
        _open();
    }

    function testATaskHasOneActiveRound() public {
        _open();
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerRoundActive.selector, TASK, 1)
        );
        _open();
        IRoundLedger.Terms memory terms = _terms();
        terms.task = "haemorrhages";
        _assert(_open(terms) == 2, "another task");
    }

    function testTheBaseMustBeTheTasksLastFinalModel() public {
        _finish();
        IRoundLedger.Terms memory terms = _later();
        terms.baseModel = BASE_MODEL;
        vm.expectRevert(_mismatch(MODEL, BASE_MODEL));
        _open(terms);
        terms = _later();
        terms.baseBlob = BASE_BLOB;
        vm.expectRevert(_mismatch(MODEL_BLOB, BASE_BLOB));
        _open(terms);
        _assert(_open(_later()) == 2, "builds on the final model");
    }

    function testAStewardAbortsInAnyPhaseBeforeFinal() public {
        _expectAbort(steward, _open());
        _expectAbort(steward, _openWithRecords(2));
        uint256 round = _openWithRecords(2);
        _propose(round, 2);
        _expectAbort(steward, round);
        _assert(ledger.roundCount() == 3, "three rounds");
    }

    function testTheAggregatorAbortsWhileNothingIsProposed() public {
        _expectAbort(aggregator, _open());
        _expectAbort(aggregator, _openWithRecords(1));
        uint256 round = _openWithRecords(2);
        _propose(round, 2);
        vm.expectRevert(_unexpected(round, IRoundLedger.Phase.Proposed));
        vm.prank(aggregator);
        ledger.abort(round, "too late");
    }

    function testNobodyElseAborts() public {
        uint256 round = _open();
        vm.expectRevert(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerNotAggregator.selector,
                round,
                aggregator,
                stranger
            )
        );
        vm.prank(stranger);
        ledger.abort(round, "spite");
        _suspend(aggregator);
        vm.expectRevert(_suspendedParty(aggregator));
        vm.prank(aggregator);
        ledger.abort(round, "spite");
    }

    function testNoRoundIsAbortedTwiceOrOnceFinal() public {
        uint256 round = _open();
        _expectAbort(steward, round);
        vm.expectRevert(_unexpected(round, IRoundLedger.Phase.Aborted));
        vm.prank(steward);
        ledger.abort(round, "again");
        round = _finish();
        vm.expectRevert(_unexpected(round, IRoundLedger.Phase.Final));
        vm.prank(steward);
        ledger.abort(round, "too late");
    }

    function _expectInvalid(string memory field, IRoundLedger.Terms memory terms) private {
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerInvalidTerms.selector, field)
        );
        _open(terms);
    }

    function _expectAbort(address by, uint256 round) private {
        vm.expectEmit(true, true, false, true, address(ledger));
        emit IRoundLedger.RoundAborted(round, TASK, by, "reason");
        vm.prank(by);
        ledger.abort(round, "reason");
        _assert(ledger.roundOf(round).phase == IRoundLedger.Phase.Aborted, "aborted");
        _assert(ledger.activeRound(TASK) == 0, "no active round");
        (bytes32 model, , ) = ledger.lastFinal(TASK);
        _assert(model == 0, "the base model stays");
        vm.warp(NOW);
    }

    function _later() private view returns (IRoundLedger.Terms memory terms) {
        terms = _terms();
        terms.baseModel = MODEL;
        terms.baseBlob = MODEL_BLOB;
        terms.deadline = DEADLINE + 1 days;
    }
}
