// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clinicians} from "./Clinicians.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {ReadingRecords} from "./ReadingRecords.sol";
import {ReadingRequests} from "./ReadingRequests.sol";

/// @title Who said what of an image
/// @notice Clinicians says who reads in a hospital's name, ReadingRecords takes readings,
/// corrections and comparisons, ReadingRequests what hospitals ask of each other.
contract Readings is ReadingRequests {
    /// @notice Ties the contract to the federation.
    /// @param participantRegistry Who may act.
    /// @param datasetRegistry Which data.
    constructor(
        IParticipantRegistry participantRegistry,
        IDatasetRegistry datasetRegistry
    ) Clinicians(participantRegistry) ReadingRecords(datasetRegistry) {}
}
