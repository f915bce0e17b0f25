// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";

contract RoundTalliesTest is Federation {
    uint8 private constant _ACCEPTED = uint8(IRoundLedger.Outcome.Accepted);
    uint8 private constant _CLIPPED = uint8(IRoundLedger.Outcome.Clipped);
    uint8 private constant _REJECTED = uint8(IRoundLedger.Outcome.Rejected);
    uint8 private constant _ABSENT = 3;
    uint256 private constant _ROUNDS = 5;

    function testEachOutcomeOfAFinalRoundIsCounted() public {
        _assertTally(0, 0, 0, 0);
        _play([_ACCEPTED, _CLIPPED, _REJECTED, _ABSENT]);
        _assertTally(0, 1, 0, 0);
        _assertTally(1, 0, 1, 0);
        _assertTally(2, 0, 0, 1);
        _assertTally(3, 0, 0, 0);
    }

    function testTalliesGrowFromRoundToRound() public {
        _play([_ACCEPTED, _REJECTED, _ABSENT, _ABSENT]);
        _play([_ACCEPTED, _ABSENT, _ABSENT, _CLIPPED]);
        _play([_ACCEPTED, _REJECTED, _CLIPPED, _CLIPPED]);
        _assertTally(0, 3, 0, 0);
        _assertTally(1, 0, 0, 2);
        _assertTally(2, 0, 1, 0);
        _assertTally(3, 0, 2, 0);
    }

    function testWhatIsNotFinalIsNotCounted() public {
        uint256 round = _proposed("lesions", [_ACCEPTED, _REJECTED, _ABSENT, _ABSENT]);
        _attest(round, 1, 0);
        _assertTally(0, 0, 0, 0);
        _assertTally(1, 0, 0, 0);
        _attest(round, 1, 1);
        _assertTally(0, 1, 0, 0);
        _assertTally(1, 0, 0, 1);
    }

    function testAnAbortedRoundIsNeverCounted() public {
        uint256 round = _proposed("lesions", [_ACCEPTED, _REJECTED, _ABSENT, _ABSENT]);
        vm.prank(steward);
        ledger.abort(round, "holiday");
        _assertTally(0, 0, 0, 0);
        _play([_ACCEPTED, _ACCEPTED, _ABSENT, _ABSENT]);
        _assertTally(0, 1, 0, 0);
        _assertTally(1, 1, 0, 0);
    }

    function testOfSeveralProposalsTheFinalOneIsCounted() public {
        _play([_ACCEPTED, _ACCEPTED, _ABSENT, _ABSENT]);
        uint256 round = _proposed("lesions", [_ACCEPTED, _REJECTED, _ABSENT, _ABSENT]);
        _dispute(round, 1, 0);
        uint8[4] memory outcomes = [_CLIPPED, _ACCEPTED, _ABSENT, _ABSENT];
        vm.prank(aggregator);
        ledger.propose(round, MODEL, MODEL_BLOB, _judged(outcomes));
        _assertTally(0, 1, 0, 0);
        _finalize(round, 2);
        _assertTally(0, 1, 1, 0);
        _assertTally(1, 2, 0, 0);
    }

    function testTasksAreCountedApart() public {
        _finalize(_proposed("lesions", [_ACCEPTED, _REJECTED, _ABSENT, _ABSENT]), 1);
        _finalize(_proposed("fractures", [_CLIPPED, _ACCEPTED, _ABSENT, _ABSENT]), 1);
        _assertTally(0, 1, 0, 0);
        _assertTally(1, 0, 0, 1);
        IRoundLedger.Tally memory other = ledger.tallyOf(keccak256("fractures"), hospitals[0]);
        _assert(other.accepted == 0 && other.clipped == 1 && other.rejected == 0, "other task");
    }

    function testATallyIsWhatItsFinalRoundsAddUpTo(uint256 choice) public {
        uint32[3][4] memory expected;
        for (uint256 i = 0; i < _ROUNDS; ++i) {
            uint8[4] memory outcomes;
            // The first is kept, for the round to be fit.
            for (uint256 j = 1; j < 4; ++j) outcomes[j] = uint8(choice >> (8 * i + 2 * j)) % 4;
            uint256 round = _proposed("lesions", outcomes);
            if ((choice >> (128 + i)) & 1 == 0) {
                vm.prank(steward);
                ledger.abort(round, "by chance");
                continue;
            }
            _finalize(round, 1);
            for (uint256 j = 0; j < 4; ++j)
                if (outcomes[j] != _ABSENT) ++expected[j][outcomes[j]];
        }
        for (uint256 j = 0; j < 4; ++j)
            _assertTally(j, expected[j][0], expected[j][1], expected[j][2]);
    }

    function _play(uint8[4] memory outcomes) private {
        _finalize(_proposed("lesions", outcomes), 1);
    }

    /// @dev A round that has got as far as its first proposal.
    function _proposed(
        string memory task,
        uint8[4] memory outcomes
    ) private returns (uint256 round) {
        vm.warp(NOW);
        IRoundLedger.Terms memory terms = _terms();
        terms.task = task;
        terms.minUpdates = 1;
        (bytes32 model, bytes32 modelBlob, uint256 last) = ledger.lastFinal(
            keccak256(bytes(task))
        );
        if (last != 0) (terms.baseModel, terms.baseBlob) = (model, modelBlob);
        round = _open(terms);
        for (uint256 i = 0; i < outcomes.length; ++i) {
            if (outcomes[i] == _ABSENT) continue;
            IRoundLedger.UpdateRecord memory record = _record(round, i);
            record.baseModel = terms.baseModel;
            _relay(record, hospitalKeys[i]);
        }
        vm.warp(DEADLINE + 1);
        vm.prank(aggregator);
        ledger.propose(round, MODEL, MODEL_BLOB, _judged(outcomes));
    }

    function _finalize(uint256 round, uint32 proposal) private {
        _attest(round, proposal, 1);
        _attest(round, proposal, 2);
    }

    function _judged(
        uint8[4] memory outcomes
    ) private view returns (IRoundLedger.Verdict[] memory verdicts) {
        uint256 count = 0;
        for (uint256 i = 0; i < 4; ++i) if (outcomes[i] != _ABSENT) ++count;
        verdicts = new IRoundLedger.Verdict[](count);
        uint256 next = 0;
        for (uint256 i = 0; i < 4; ++i) {
            if (outcomes[i] == _ABSENT) continue;
            verdicts[next].hospital = hospitals[i];
            verdicts[next].outcome = IRoundLedger.Outcome(outcomes[i]);
            verdicts[next++].reason = outcomes[i] == _ACCEPTED ? 0 : 13;
        }
    }

    function _assertTally(
        uint256 hospital,
        uint32 accepted,
        uint32 clipped,
        uint32 rejected
    ) private view {
        IRoundLedger.Tally memory tally = ledger.tallyOf(TASK, hospitals[hospital]);
        _assert(tally.accepted == accepted, "accepted");
        _assert(tally.clipped == clipped, "clipped");
        _assert(tally.rejected == rejected, "rejected");
    }
}
