// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Roles} from "./Roles.sol";
import {RoundHashes} from "./RoundHashes.sol";
import {Rounds} from "./Rounds.sol";

/// @title A round's records
/// @notice One slot holds each record's struct hash; the event holds what was hashed.
abstract contract RoundRecords is Rounds, EIP712 {
    mapping(uint256 round => mapping(address hospital => bytes32 digest)) private _records;

    /// @inheritdoc IRoundLedger
    function recordUpdate(UpdateRecord calldata record) external {
        _record(record, RoundHashes.updateRecord(record), msg.sender);
    }

    /// @inheritdoc IRoundLedger
    function relayUpdate(UpdateRecord calldata record, bytes calldata signature) external {
        _relay(record, signature);
    }

    /// @inheritdoc IRoundLedger
    function relayUpdates(
        UpdateRecord[] calldata records,
        bytes[] calldata signatures
    ) external {
        if (records.length != signatures.length)
            revert RoundLedgerLengthMismatch(records.length, signatures.length);
        for (uint256 i = 0; i < records.length; ++i) _relay(records[i], signatures[i]);
    }

    /// @inheritdoc IRoundLedger
    function recordDigestOf(uint256 round, address hospital) public view returns (bytes32) {
        return _records[round][hospital];
    }

    /// @dev Zero where `signature` is none.
    function _signerOf(
        bytes32 structHash,
        bytes calldata signature
    ) internal view returns (address signer) {
        // What was wrong with a signature is no matter: nobody's address is zero.
        // slither-disable-next-line unused-return
        (signer, , ) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
    }

    function _isCollecting(Round storage state) internal view returns (bool) {
        // A validator can move the time by seconds; rounds last for hours.
        // slither-disable-next-line timestamp
        return state.updates < state.maxUpdates && block.timestamp <= state.deadline;
    }

    function _relay(UpdateRecord calldata record, bytes calldata signature) private {
        bytes32 digest = RoundHashes.updateRecord(record);
        _record(record, digest, _signerOf(digest, signature));
    }

    function _record(UpdateRecord calldata record, bytes32 digest, address signer) private {
        Round storage state = _existing(record.round);
        _checkPlace(record);
        _checkTime(record.round, state);
        _checkSigner(record, signer);
        _checkTraining(record, state);

        _records[record.round][record.hospital] = digest;
        state.phase = Phase.Collecting;
        ++state.updates;
        emit UpdateRecorded(
            record.round,
            record.hospital,
            digest,
            record.datasets,
            record.examples,
            record.update,
            record.blob,
            record.code,
            record.epsilon,
            record.delta
        );
    }

    function _checkPlace(UpdateRecord calldata record) private view {
        if (record.chainId != block.chainid)
            revert RoundLedgerWrongChain(block.chainid, record.chainId);
        if (record.ledger != address(this))
            revert RoundLedgerWrongLedger(address(this), record.ledger);
    }

    function _checkTime(uint256 round, Round storage state) private view {
        if (state.phase != Phase.Open && state.phase != Phase.Collecting)
            revert RoundLedgerUnexpectedPhase(round, state.phase);
        // A validator can move the time by seconds; rounds last for hours.
        // slither-disable-next-line timestamp
        if (block.timestamp > state.deadline)
            revert RoundLedgerLateRecord(round, state.deadline, block.timestamp);
        if (state.updates == state.maxUpdates)
            revert RoundLedgerRoundFull(round, state.maxUpdates);
    }

    function _checkSigner(UpdateRecord calldata record, address signer) private view {
        // A batch is all or none, so that one refusal may end it.
        // slither-disable-next-line calls-loop
        participants().requireActive(record.hospital, Roles.HOSPITAL);
        if (_records[record.round][record.hospital] != 0)
            revert RoundLedgerDuplicateRecord(record.round, record.hospital);
        if (signer != record.hospital) revert RoundLedgerBadSignature(record.hospital, signer);
    }

    function _checkTraining(UpdateRecord calldata record, Round storage state) private view {
        if (record.purpose != state.purpose)
            revert RoundLedgerPurposeMismatch(state.purpose, record.purpose);
        if (record.baseModel != state.baseModel)
            revert RoundLedgerBaseModelMismatch(state.baseModel, record.baseModel);
        // A batch is all or none, so that one refusal may end it.
        // slither-disable-next-line calls-loop
        uint256 images = datasets().usableImages(
            record.hospital,
            record.datasets,
            record.purpose
        );
        if (record.examples == 0 || record.examples > images)
            revert RoundLedgerExamplesOutOfRange(record.examples, images);
        if (record.update == 0) revert RoundLedgerEmptyDigest("update");
        if (record.blob == 0) revert RoundLedgerEmptyDigest("blob");
        if (record.code == 0) revert RoundLedgerEmptyDigest("code");
    }
}
