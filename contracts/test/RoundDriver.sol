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

    function open(uint8 quorum) external inTime {
        IRoundLedger.Terms memory terms = _terms();
        (bytes32 model, bytes32 modelBlob, uint256 last) = ledger.lastFinal(TASK);
        if (last != 0) (terms.baseModel, terms.baseBlob) = (model, modelBlob);
        terms.minUpdates = 1;
        terms.quorum = 1 + (quorum % 3);
        terms.deadline = uint64(_time) + 1 hours;
        _open(terms);
    }

    function record(uint8 hospital) external inTime {
        uint256 i = hospital % hospitals.length;
        uint256 round = ledger.roundCount();
        IRoundLedger.UpdateRecord memory update = _record(round, i);
        update.baseModel = ledger.roundOf(round).baseModel;
        _relay(update, hospitalKeys[i]);
        ++taken;
    }

    function propose(bytes32 model) external {
        uint256 round = ledger.roundCount();
        vm.warp(_time += 2 hours);
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
