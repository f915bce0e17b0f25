// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {RoundHeads} from "./RoundHeads.sol";
import {Rounds} from "./Rounds.sol";

/// @title Which round
/// @notice Rounds opens and aborts them, RoundRecords takes the updates' records, RoundProposals
/// takes the model and its witnesses' word, RoundTallies counts what became of the updates,
/// RoundHeads takes what witnesses sign of the chain itself.
contract RoundLedger is RoundHeads {
    /// @notice Ties the ledger to the federation.
    /// @param participantRegistry Who may act.
    /// @param datasetRegistry Which data.
    constructor(
        IParticipantRegistry participantRegistry,
        IDatasetRegistry datasetRegistry
    ) Rounds(participantRegistry, datasetRegistry) EIP712("FedWitness", "1") {}
}
