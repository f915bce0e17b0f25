// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Roles} from "./Roles.sol";
import {RoundTerms} from "./RoundTerms.sol";

/// @title A round's beginning and its end without a model
/// @notice Holds the rounds; what happens in between is RoundRecords' and RoundProposals'.
abstract contract Rounds is IRoundLedger {
    /// @dev `spoken` is the last proposal that the witness attested or disputed, so that a new
    /// proposal gives every witness its word back. All members share one slot.
    struct Seat {
        bool taken;
        bool cosigned;
        uint32 spoken;
    }

    struct FinalModel {
        bytes32 model;
        bytes32 modelBlob;
        uint256 round;
    }

    IParticipantRegistry private immutable _participants;
    IDatasetRegistry private immutable _datasets;
    uint256 private immutable _deployedAt = block.number;
    uint256 private _roundCount;
    /// @dev The members of Round up to `deadline` share one slot, which recording reads and writes.
    mapping(uint256 round => Round state) private _rounds;
    mapping(uint256 round => mapping(address witness => Seat seat)) private _seats;
    mapping(bytes32 task => uint256 round) private _activeRounds;
    mapping(bytes32 task => FinalModel final_) private _finals;

    constructor(IParticipantRegistry participantRegistry, IDatasetRegistry datasetRegistry) {
        _participants = participantRegistry;
        _datasets = datasetRegistry;
    }

    /// @inheritdoc IRoundLedger
    function openRound(Terms calldata terms) external returns (uint256 round) {
        _participants.requireActive(msg.sender, Roles.AGGREGATOR);
        RoundTerms.check(terms, _participants);
        bytes32 task = keccak256(bytes(terms.task));
        FinalModel storage base = _finals[task];
        if (base.round != 0) {
            _checkBase(base.model, terms.baseModel);
            _checkBase(base.modelBlob, terms.baseBlob);
        }
        if (_activeRounds[task] != 0) revert RoundLedgerRoundActive(task, _activeRounds[task]);

        round = ++_roundCount;
        _activeRounds[task] = round;
        _store(round, task, terms);
        for (uint256 i = 0; i < terms.witnesses.length; ++i)
            _seats[round][terms.witnesses[i]].taken = true;
        emit RoundOpened(round, task, msg.sender, terms);
    }

    /// @inheritdoc IRoundLedger
    function abort(uint256 round, string calldata reason) external {
        Round storage state = _existing(round);
        Phase phase = state.phase;
        if (phase == Phase.Final || phase == Phase.Aborted)
            revert RoundLedgerUnexpectedPhase(round, phase);
        if (!_participants.isActive(msg.sender, Roles.STEWARD)) {
            _checkAggregator(round, state);
            if (phase == Phase.Proposed) revert RoundLedgerUnexpectedPhase(round, phase);
        }
        state.phase = Phase.Aborted;
        delete _activeRounds[state.task];
        emit RoundAborted(round, state.task, msg.sender, reason);
    }

    /// @inheritdoc IRoundLedger
    function roundOf(uint256 round) external view returns (Round memory) {
        return _existing(round);
    }

    /// @inheritdoc IRoundLedger
    function roundCount() external view returns (uint256) {
        return _roundCount;
    }

    /// @inheritdoc IRoundLedger
    function lastFinal(
        bytes32 task
    ) external view returns (bytes32 model, bytes32 modelBlob, uint256 round) {
        FinalModel storage last = _finals[task];
        return (last.model, last.modelBlob, last.round);
    }

    /// @inheritdoc IRoundLedger
    function activeRound(bytes32 task) external view returns (uint256) {
        return _activeRounds[task];
    }

    /// @inheritdoc IRoundLedger
    function participants() public view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @inheritdoc IRoundLedger
    function datasets() public view returns (IDatasetRegistry) {
        return _datasets;
    }

    /// @inheritdoc IRoundLedger
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    function _finalize(uint256 round, Round storage state) internal {
        bytes32 task = state.task;
        state.phase = Phase.Final;
        delete _activeRounds[task];
        _finals[task] = FinalModel(state.model, state.modelBlob, round);
        emit RoundFinalized(round, task, state.model, state.modelBlob);
    }

    function _existing(uint256 round) internal view returns (Round storage state) {
        state = _rounds[round];
        if (state.phase == Phase.Unknown) revert RoundLedgerUnknownRound(round);
    }

    function _seatOf(uint256 round, address witness) internal view returns (Seat storage) {
        return _seats[round][witness];
    }

    function _checkAggregator(uint256 round, Round storage state) internal view {
        if (state.aggregator != msg.sender)
            revert RoundLedgerNotAggregator(round, state.aggregator, msg.sender);
        _participants.requireActive(msg.sender, Roles.AGGREGATOR);
    }

    function _store(uint256 round, bytes32 task, Terms calldata terms) private {
        Round storage state = _rounds[round];
        state.phase = Phase.Open;
        state.purpose = terms.purpose;
        state.quorum = terms.quorum;
        state.minUpdates = terms.minUpdates;
        state.maxUpdates = terms.maxUpdates;
        state.deadline = terms.deadline;
        state.aggregator = msg.sender;
        state.task = task;
        state.baseModel = terms.baseModel;
        state.schema = terms.schema;
        state.rule = sha256(bytes(terms.rule));
    }

    function _checkBase(bytes32 expected, bytes32 found) private pure {
        if (expected != found) revert RoundLedgerBaseModelMismatch(expected, found);
    }
}
