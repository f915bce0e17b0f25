// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The federation's roles
/// @notice Role identifiers of docs/protocol.md, section 2.
library Roles {
    bytes32 internal constant HOSPITAL = keccak256("HOSPITAL");
    bytes32 internal constant AGGREGATOR = keccak256("AGGREGATOR");
    bytes32 internal constant WITNESS = keccak256("WITNESS");
    bytes32 internal constant AUDITOR = keccak256("AUDITOR");
    bytes32 internal constant RESEARCHER = keccak256("RESEARCHER");
    bytes32 internal constant STEWARD = keccak256("STEWARD");
}
