// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Roles} from "./Roles.sol";

/// @title What a round may fix
/// @notice The bounds of docs/protocol.md, section 7, on a round's terms.
library RoundTerms {
    uint256 private constant _MAX_TASK_LENGTH = 64;
    uint256 private constant _MAX_RULE_LENGTH = 1024;
    uint256 private constant _MAX_UPDATES = 128;
    uint256 private constant _MAX_WITNESSES = 32;
    uint256 private constant _MAX_DURATION = 30 days;
    uint8 private constant _PURPOSES = 48;

    /// @notice Reverts with the first fault of the terms.
    /// @param terms The terms.
    /// @param participants Who may act.
    function check(
        IRoundLedger.Terms calldata terms,
        IParticipantRegistry participants
    ) internal view {
        _require(_isWithin(terms.task, _MAX_TASK_LENGTH), "task");
        _require(terms.purpose < _PURPOSES, "purpose");
        _require(terms.baseModel != 0, "baseModel");
        _require(terms.baseBlob != 0, "baseBlob");
        _require(terms.schema != 0, "schema");
        _require(_isWithin(terms.rule, _MAX_RULE_LENGTH), "rule");
        _require(terms.minUpdates > 0 && terms.minUpdates <= terms.maxUpdates, "minUpdates");
        _require(terms.maxUpdates <= _MAX_UPDATES, "maxUpdates");
        _require(terms.quorum > 0, "quorum");
        // A validator can move the time by seconds; rounds last for hours.
        // slither-disable-next-line timestamp
        _require(
            terms.deadline > block.timestamp && terms.deadline <= block.timestamp + _MAX_DURATION,
            "deadline"
        );
        _checkWitnesses(terms, participants);
    }

    function _checkWitnesses(
        IRoundLedger.Terms calldata terms,
        IParticipantRegistry participants
    ) private view {
        uint256 count = terms.witnesses.length;
        _require(count >= terms.quorum && count <= _MAX_WITNESSES, "witnesses");
        address last = address(0);
        for (uint256 i = 0; i < count; ++i) {
            address witness = terms.witnesses[i];
            _require(witness > last, "witnesses");
            participants.requireActive(witness, Roles.WITNESS);
            last = witness;
        }
    }

    function _isWithin(string calldata text, uint256 limit) private pure returns (bool) {
        return bytes(text).length > 0 && bytes(text).length <= limit;
    }

    function _require(bool holds, string memory field) private pure {
        if (!holds) revert IRoundLedger.RoundLedgerInvalidTerms(field);
    }
}
