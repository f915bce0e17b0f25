// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {RoundDriver} from "./RoundDriver.sol";

contract RoundInvariantsTest {
    bytes32 private constant _TASK = keccak256("lesions");

    RoundDriver private _driver;
    IRoundLedger private _ledger;

    error InvariantBroken(string what, uint256 round);

    function setUp() public {
        _driver = new RoundDriver();
        _ledger = _driver.ledgerUnderTest();
    }

    function invariantUpdatesCountTheRecordsAndEachHospitalHasOneAtMost() public view {
        address[] memory hospitals = _driver.hospitalList();
        uint256 total = 0;
        for (uint256 round = 1; round <= _ledger.roundCount(); ++round) {
            uint256 records = 0;
            for (uint256 i = 0; i < hospitals.length; ++i)
                if (_ledger.recordDigestOf(round, hospitals[i]) != 0) ++records;
            _check(_ledger.roundOf(round).updates == records, "updates equal records", round);
            total += records;
        }
        _check(total == _driver.taken(), "every record taken is counted once", 0);
    }

    function invariantOnlyAQuorumOnAnUndisputedProposalIsFinal() public view {
        for (uint256 round = 1; round <= _ledger.roundCount(); ++round) {
            IRoundLedger.Round memory state = _ledger.roundOf(round);
            bool isFinal = state.phase == IRoundLedger.Phase.Final;
            _check(state.attestations <= state.quorum, "no more than k attestations", round);
            _check(!isFinal || state.attestations == state.quorum, "k attestations", round);
            _check(!isFinal || !state.disputed, "undisputed", round);
            _check(
                state.attestations < state.quorum || isFinal,
                "k attestations make final at once",
                round
            );
        }
    }

    function invariantAFinalRoundNeverChanges() public view {
        uint256[] memory rounds = _driver.finalRounds();
        for (uint256 i = 0; i < rounds.length; ++i) {
            bytes32 state = keccak256(abi.encode(_ledger.roundOf(rounds[i])));
            _check(state == _driver.finalStates(rounds[i]), "unchanged", rounds[i]);
        }
    }

    function invariantTheFinalModelMovesOnlyAlongBaseModels() public view {
        _check(!_driver.movedWithoutBase(), "the next model builds on the last", 0);
        (bytes32 model, , uint256 last) = _ledger.lastFinal(_TASK);
        uint256[] memory rounds = _driver.finalRounds();
        if (rounds.length == 0) {
            _check(model == 0 && last == 0, "none before the first final round", 0);
            return;
        }
        _check(last == rounds[rounds.length - 1], "the newest final round", last);
        _check(model == _ledger.roundOf(last).model, "that round's model", last);
        for (uint256 i = 1; i < rounds.length; ++i)
            _check(
                _ledger.roundOf(rounds[i]).baseModel == _ledger.roundOf(rounds[i - 1]).model,
                "an unbroken line",
                rounds[i]
            );
    }

    function invariantATallyCountsTheFinalRoundsThatAHospitalHasARecordIn() public view {
        address[] memory hospitals = _driver.hospitalList();
        uint256[] memory rounds = _driver.finalRounds();
        for (uint256 i = 0; i < hospitals.length; ++i) {
            uint256 records = 0;
            for (uint256 j = 0; j < rounds.length; ++j)
                if (_ledger.recordDigestOf(rounds[j], hospitals[i]) != 0) ++records;
            IRoundLedger.Tally memory tally = _ledger.tallyOf(_TASK, hospitals[i]);
            uint256 counted = uint256(tally.accepted) + tally.clipped + tally.rejected;
            _check(counted == records, "each of its records is counted once", i);
        }
    }

    function invariantOneRoundOfATaskIsActive() public view {
        uint256 active = 0;
        for (uint256 round = 1; round <= _ledger.roundCount(); ++round) {
            IRoundLedger.Phase phase = _ledger.roundOf(round).phase;
            if (phase != IRoundLedger.Phase.Final && phase != IRoundLedger.Phase.Aborted) {
                _check(active == 0, "one at the most", round);
                active = round;
            }
        }
        _check(_ledger.activeRound(_TASK) == active, "and it is named", active);
    }

    /// @dev Runs after each run: what holds of final rounds is worth nothing where there are none.
    function afterInvariant() public view {
        _check(_driver.finalRounds().length > 0, "some round became final", 0);
    }

    /// @dev What the test runner draws its calls from.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_driver);
    }

    function _check(bool holds, string memory what, uint256 round) private pure {
        if (!holds) revert InvariantBroken(what, round);
    }
}
