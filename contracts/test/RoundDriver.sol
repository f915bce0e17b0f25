// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";

/// @title Everything that happens to rounds, in any order
/// @notice The invariant tests call these at random; refusals are part of the run.
contract RoundDriver is Federation {
    uint256 public taken;
    bool public movedWithoutBase;
    mapping(uint256 round => bytes32 state) public finalStates;
    uint256[] private _finalRounds;
    uint256 private _time = NOW;

    /// @dev The runner may forget a warp between two calls.
    modifier inTime() {
        vm.warp(_time);
        _;
    }

    constructor() {
        setUp();
    }

    /// @dev The runner calls this too; a second federation would leave the ledger under test idle.
    function setUp() public override {
        if (address(ledger) == address(0)) super.setUp();
    }

    function open(uint8 quorum) public inTime {
        IRoundLedger.Terms memory terms = _terms();
        (bytes32 model, bytes32 modelBlob, uint256 last) = ledger.lastFinal(TASK);
        if (last != 0) (terms.baseModel, terms.baseBlob) = (model, modelBlob);
        terms.minUpdates = 1;
        terms.quorum = 1 + (quorum % 3);
        terms.deadline = uint64(_time) + 1 hours;
        _open(terms);
    }

    function record(uint8 hospital) public inTime {
        uint256 i = hospital % hospitals.length;
        uint256 round = ledger.roundCount();
        IRoundLedger.UpdateRecord memory update = _record(round, i);
        update.baseModel = ledger.roundOf(round).baseModel;
        _relay(update, hospitalKeys[i]);
        ++taken;
    }

    /// @dev Time stands still while nothing is recorded, since no record could follow.
    function propose(bytes32 model) public inTime {
        uint256 round = ledger.roundCount();
        if (ledger.roundOf(round).updates > 0) vm.warp(_time += 2 hours);
        IRoundLedger.Verdict[] memory verdicts = _verdictsOf(round);
        vm.prank(aggregator);
        ledger.propose(round, model, MODEL_BLOB, verdicts);
    }

    function attest(uint8 witness) external inTime {
        uint256 round = ledger.roundCount();
        (bytes32 before, , ) = ledger.lastFinal(TASK);
        IRoundLedger.Round memory state = ledger.roundOf(round);
        _attest(round, state.proposal, witness % witnesses.length);
        (bytes32 model, , uint256 last) = ledger.lastFinal(TASK);
        if (last != round) return;
        if (before != 0 && state.baseModel != before) movedWithoutBase = true;
        if (model != state.model) movedWithoutBase = true;
        finalStates[round] = keccak256(abi.encode(ledger.roundOf(round)));
        _finalRounds.push(round);
    }

    function dispute(uint8 witness) external inTime {
        uint256 round = ledger.roundCount();
        _dispute(round, ledger.roundOf(round).proposal, witness % witnesses.length);
    }

    /// @dev Leads the newest round to its end from wherever it stands: by chance few get there.
    function finish(uint8 quorum) external {
        if (ledger.activeRound(TASK) == 0) open(quorum);
        uint256 round = ledger.roundCount();
        if (ledger.roundOf(round).phase == IRoundLedger.Phase.Open) record(quorum);
        IRoundLedger.Round memory state = ledger.roundOf(round);
        if (state.phase == IRoundLedger.Phase.Collecting || state.disputed)
            propose(keccak256(abi.encode("model", round)));
        for (uint8 i = 0; i < witnesses.length; ++i) {
            try this.attest(i) {
                if (ledger.activeRound(TASK) == 0) return;
            } catch {
                continue; // It attested before.
            }
        }
    }

    /// @dev Seldom, for most rounds to get further.
    function abort(uint8 who) external inTime {
        if (who % 8 > 1) return;
        uint256 round = ledger.roundCount();
        vm.prank(who % 8 == 0 ? steward : aggregator);
        ledger.abort(round, "by chance");
    }

    function finalRounds() external view returns (uint256[] memory) {
        return _finalRounds;
    }

    function ledgerUnderTest() external view returns (IRoundLedger) {
        return ledger;
    }

    function hospitalList() external view returns (address[] memory) {
        return hospitals;
    }

    function _verdictsOf(
        uint256 round
    ) private view returns (IRoundLedger.Verdict[] memory verdicts) {
        verdicts = new IRoundLedger.Verdict[](ledger.roundOf(round).updates);
        uint256 next = 0;
        for (uint256 i = 0; i < hospitals.length; ++i)
            if (ledger.recordDigestOf(round, hospitals[i]) != 0)
                verdicts[next++].hospital = hospitals[i];
    }
}
