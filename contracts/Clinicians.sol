// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {IReadings} from "./interfaces/IReadings.sol";
import {Roles} from "./Roles.sol";

/// @title Who reads in a hospital's name
/// @notice A hospital's word holds until the time that it names, or until it says otherwise.
abstract contract Clinicians is IReadings {
    IParticipantRegistry private immutable _participants;
    mapping(address hospital => mapping(address clinician => uint64 until)) private _appointed;

    constructor(IParticipantRegistry participantRegistry) {
        _participants = participantRegistry;
    }

    /// @inheritdoc IReadings
    function appoint(address clinician, uint64 until) external {
        // Whoever is suspended still ends what it granted.
        if (until >= _appointed[msg.sender][clinician])
            _participants.requireActive(msg.sender, Roles.HOSPITAL);
        _appointed[msg.sender][clinician] = until;
        emit ClinicianAppointed(msg.sender, clinician, until);
    }

    /// @inheritdoc IReadings
    function appointedUntil(
        address hospital,
        address clinician
    ) external view returns (uint64) {
        return _appointed[hospital][clinician];
    }

    /// @inheritdoc IReadings
    function participants() external view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @dev Reverts unless the hospital is active and the sender is it, or its clinician now.
    function _checkSender(address hospital) internal view {
        _checkHospital(hospital);
        // A validator can move the time by seconds; appointments last for days.
        // slither-disable-next-line timestamp
        if (msg.sender != hospital && _appointed[hospital][msg.sender] < block.timestamp)
            revert ReadingsNotAppointed(hospital, msg.sender);
    }

    /// @dev Reverts unless the hospital is active.
    function _checkHospital(address hospital) internal view {
        _participants.requireActive(hospital, Roles.HOSPITAL);
    }

    function _isActive(address hospital) internal view returns (bool) {
        return _participants.isActive(hospital, Roles.HOSPITAL);
    }
}
