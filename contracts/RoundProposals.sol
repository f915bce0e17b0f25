// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleRoot} from "./MerkleRoot.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Roles} from "./Roles.sol";
import {RoundHashes} from "./RoundHashes.sol";
import {RoundTallies} from "./RoundTallies.sol";

/// @title A round's model
/// @notice The aggregator proposes, witnesses attest or dispute; k attestations of one proposal
/// make it final, and one dispute bars it.
abstract contract RoundProposals is RoundTallies {
    /// @inheritdoc IRoundLedger
    function propose(
        uint256 round,
        bytes32 model,
        bytes32 modelBlob,
        Verdict[] calldata verdicts
    ) external {
        Round storage state = _existing(round);
        _checkProposable(round, state);
        if (model == 0) revert RoundLedgerEmptyDigest("model");
        if (modelBlob == 0) revert RoundLedgerEmptyDigest("modelBlob");
        bytes32 root = _checkVerdicts(round, state, verdicts);

        uint32 proposal = state.proposal + 1;
        state.phase = Phase.Proposed;
        state.proposal = proposal;
        state.attestations = 0;
        state.disputed = false;
        state.model = model;
        state.modelBlob = modelBlob;
        state.verdicts = root;
        emit ModelProposed(round, proposal, model, modelBlob, root);
        bytes32 task = state.task;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            _count(round, task, verdicts[i].hospital, verdicts[i].outcome);
            _emitVerdict(round, proposal, verdicts[i]);
        }
    }

    /// @inheritdoc IRoundLedger
    function attest(
        uint256 round,
        uint32 proposal,
        address witness,
        bytes calldata signature
    ) external {
        Round storage state = _proposed(round, proposal);
        if (state.disputed) revert RoundLedgerProposalDisputed(round, proposal);
        Seat storage seat = _silentSeat(round, proposal, witness);
        address signer = _signerOf(
            RoundHashes.attestation(
                round,
                proposal,
                state.model,
                state.modelBlob,
                state.verdicts
            ),
            signature
        );
        if (signer != witness) revert RoundLedgerBadSignature(witness, signer);

        seat.spoken = proposal;
        ++state.attestations;
        emit ProposalAttested(round, proposal, witness, signature);
        if (state.attestations == state.quorum) _finalize(round, state);
    }

    /// @inheritdoc IRoundLedger
    function dispute(
        uint256 round,
        uint32 proposal,
        bytes32 model,
        bytes32 verdicts,
        bytes32 evidence
    ) external {
        Round storage state = _proposed(round, proposal);
        Seat storage seat = _silentSeat(round, proposal, msg.sender);
        if (model == state.model && verdicts == state.verdicts)
            revert RoundLedgerNothingToDispute(round);

        seat.spoken = proposal;
        state.disputed = true;
        emit ProposalDisputed(round, proposal, msg.sender, model, verdicts, evidence);
    }

    function _emitVerdict(uint256 round, uint32 proposal, Verdict calldata verdict) private {
        emit VerdictRecorded(
            round,
            proposal,
            verdict.hospital,
            verdict.outcome,
            verdict.reason,
            verdict.score,
            verdict.threshold,
            verdict.content
        );
    }

    function _checkProposable(uint256 round, Round storage state) private view {
        bool isRenewal = state.phase == Phase.Proposed && state.disputed;
        if (state.phase != Phase.Collecting && !isRenewal)
            revert RoundLedgerUnexpectedPhase(round, state.phase);
        _checkAggregator(round, state);
        if (_isCollecting(state)) revert RoundLedgerStillCollecting(round, state.deadline);
    }

    /// @dev As many verdicts as records, all of different hospitals, each with a record: so every
    /// record has exactly one.
    function _checkVerdicts(
        uint256 round,
        Round storage state,
        Verdict[] calldata verdicts
    ) private view returns (bytes32 root) {
        if (verdicts.length != state.updates)
            revert RoundLedgerVerdictMissing(round, state.updates, verdicts.length);
        bytes32[] memory leaves = new bytes32[](verdicts.length);
        uint256 kept = 0;
        address last = address(0);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            Verdict calldata verdict = verdicts[i];
            _checkVerdict(round, last, verdict);
            leaves[i] = RoundHashes.verdictLeaf(round, verdict);
            if (verdict.outcome != Outcome.Rejected) ++kept;
            last = verdict.hospital;
        }
        if (kept < state.minUpdates) revert RoundLedgerTooFewUpdates(state.minUpdates, kept);
        return MerkleRoot.compute(leaves);
    }

    function _checkVerdict(uint256 round, address last, Verdict calldata verdict) private view {
        if (verdict.hospital <= last)
            revert RoundLedgerVerdictsNotAscending(last, verdict.hospital);
        if (recordDigestOf(round, verdict.hospital) == 0)
            revert RoundLedgerNoRecord(round, verdict.hospital);
        if ((verdict.outcome == Outcome.Accepted) != (verdict.reason == 0))
            revert RoundLedgerInvalidVerdict(verdict.hospital);
    }

    function _proposed(
        uint256 round,
        uint32 proposal
    ) private view returns (Round storage state) {
        state = _existing(round);
        if (state.phase != Phase.Proposed) revert RoundLedgerUnexpectedPhase(round, state.phase);
        if (proposal != state.proposal)
            revert RoundLedgerProposalMismatch(state.proposal, proposal);
    }

    function _silentSeat(
        uint256 round,
        uint32 proposal,
        address witness
    ) private view returns (Seat storage seat) {
        seat = _seatOf(round, witness);
        if (!seat.taken) revert RoundLedgerNotWitness(round, witness);
        participants().requireActive(witness, Roles.WITNESS);
        if (seat.spoken == proposal) revert RoundLedgerAlreadySpoken(round, proposal, witness);
    }
}
