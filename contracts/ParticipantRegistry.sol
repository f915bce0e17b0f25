// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {Roles} from "./Roles.sol";

/// @title Who may act
/// @notice Stewards administer every role; nobody holds OpenZeppelin's default admin role, so a
/// role is one of `Roles` exactly where its admin is STEWARD. One steward at least is active.
contract ParticipantRegistry is IParticipantRegistry, AccessControl {
    struct Participant {
        bytes32 encryptionKey;
        bool suspended;
        string name;
    }

    uint256 private constant _MAX_NAME_LENGTH = 64;

    uint256 private immutable _deployedAt = block.number;
    mapping(address account => Participant participant) private _participants;
    uint256 private _activeStewards;

    /// @notice Enrols the first steward, who enrols everybody else.
    /// @param steward Its Ethereum address.
    /// @param encryptionKey Its X25519 public key, not zero.
    /// @param name Its name, 1 to 64 bytes.
    constructor(address steward, bytes32 encryptionKey, string memory name) {
        _setRoleAdmin(Roles.HOSPITAL, Roles.STEWARD);
        _setRoleAdmin(Roles.AGGREGATOR, Roles.STEWARD);
        _setRoleAdmin(Roles.WITNESS, Roles.STEWARD);
        _setRoleAdmin(Roles.AUDITOR, Roles.STEWARD);
        _setRoleAdmin(Roles.RESEARCHER, Roles.STEWARD);
        _setRoleAdmin(Roles.STEWARD, Roles.STEWARD);
        _enroll(steward, Roles.STEWARD, encryptionKey, name);
    }

    /// @inheritdoc IParticipantRegistry
    function enroll(
        address account,
        bytes32 role,
        bytes32 encryptionKey,
        string calldata name
    ) external onlyRole(Roles.STEWARD) {
        _enroll(account, role, encryptionKey, name);
    }

    /// @inheritdoc IParticipantRegistry
    function setEncryptionKey(bytes32 encryptionKey) external {
        Participant storage participant = _enrolled(msg.sender);
        if (participant.suspended) revert ParticipantRegistrySuspended(msg.sender);
        if (encryptionKey == 0) revert ParticipantRegistryInvalidKey(encryptionKey);
        participant.encryptionKey = encryptionKey;
        emit EncryptionKeyChanged(msg.sender, encryptionKey);
    }

    /// @inheritdoc IParticipantRegistry
    function suspend(address account, string calldata reason) external onlyRole(Roles.STEWARD) {
        Participant storage participant = _enrolled(account);
        if (participant.suspended) revert ParticipantRegistrySuspended(account);
        if (hasRole(Roles.STEWARD, account)) _dropSteward(account);
        participant.suspended = true;
        emit ParticipantSuspended(account, reason);
    }

    /// @inheritdoc IParticipantRegistry
    function reinstate(address account) external onlyRole(Roles.STEWARD) {
        Participant storage participant = _participants[account];
        if (!participant.suspended) revert ParticipantRegistryNotSuspended(account);
        participant.suspended = false;
        if (hasRole(Roles.STEWARD, account)) ++_activeStewards;
        emit ParticipantReinstated(account);
    }

    /// @inheritdoc IParticipantRegistry
    function participantOf(
        address account
    ) external view returns (bytes32 encryptionKey, bool suspended, string memory name) {
        Participant storage participant = _participants[account];
        return (participant.encryptionKey, participant.suspended, participant.name);
    }

    /// @inheritdoc IParticipantRegistry
    function requireActive(address account, bytes32 role) external view {
        if (!hasRole(role, account)) revert ParticipantRegistryUnknownParticipant(account, role);
        if (_participants[account].suspended) revert ParticipantRegistrySuspended(account);
    }

    /// @inheritdoc IParticipantRegistry
    function isActive(address account, bytes32 role) external view returns (bool) {
        return hasRole(role, account) && !_participants[account].suspended;
    }

    /// @inheritdoc IParticipantRegistry
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    function _enroll(
        address account,
        bytes32 role,
        bytes32 encryptionKey,
        string memory name
    ) private {
        if (getRoleAdmin(role) != Roles.STEWARD) revert ParticipantRegistryUnknownRole(role);
        // The zero address is what a broken signature recovers to.
        if (account == address(0)) revert ParticipantRegistryUnknownParticipant(account, role);
        Participant storage participant = _participants[account];
        // A further role leaves the party's key alone: only the party may replace it.
        bytes32 current = participant.encryptionKey;
        if (encryptionKey == 0 || (current != 0 && current != encryptionKey))
            revert ParticipantRegistryInvalidKey(encryptionKey);
        if (bytes(name).length == 0 || bytes(name).length > _MAX_NAME_LENGTH)
            revert ParticipantRegistryInvalidName(name);
        if (hasRole(role, account)) revert ParticipantRegistryAlreadyEnrolled(account, role);

        participant.encryptionKey = encryptionKey;
        participant.name = name;
        _grantRole(role, account);
        emit ParticipantEnrolled(account, role, encryptionKey, name);
    }

    /// @dev OpenZeppelin's public grantRole ends here too, so it cannot bypass enrolment.
    function _grantRole(bytes32 role, address account) internal override returns (bool granted) {
        bool suspended = _enrolled(account).suspended;
        granted = super._grantRole(role, account);
        if (granted && role == Roles.STEWARD && !suspended) ++_activeStewards;
    }

    /// @dev OpenZeppelin's public revokeRole and renounceRole end here.
    function _revokeRole(bytes32 role, address account) internal override returns (bool revoked) {
        revoked = super._revokeRole(role, account);
        if (revoked && role == Roles.STEWARD && !_participants[account].suspended)
            _dropSteward(account);
    }

    function _dropSteward(address account) private {
        if (_activeStewards == 1) revert ParticipantRegistryLastSteward(account);
        --_activeStewards;
    }

    /// @dev A suspended steward holds its role and may not use it.
    function _checkRole(bytes32 role, address account) internal view override {
        super._checkRole(role, account);
        if (_participants[account].suspended) revert ParticipantRegistrySuspended(account);
    }

    function _enrolled(address account) private view returns (Participant storage participant) {
        participant = _participants[account];
        if (participant.encryptionKey == 0)
            revert ParticipantRegistryUnknownParticipant(account, bytes32(0));
    }
}
