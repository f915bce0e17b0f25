// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {Roles} from "./Roles.sol";
import {RoundHashes} from "./RoundHashes.sol";
import {RoundProposals} from "./RoundProposals.sol";

/// @title The chain that made a round final
/// @notice Witnesses sign the head of each final round, so that whoever keeps their signatures
/// notices a chain that was rewound, reorganised or split. See docs/protocol.md, section 13.
abstract contract RoundHeads is RoundProposals {
    /// @inheritdoc IRoundLedger
    function cosign(
        LedgerHead calldata head,
        address witness,
        bytes calldata signature
    ) external {
        Phase phase = _existing(head.round).phase;
        if (phase != Phase.Final) revert RoundLedgerUnexpectedPhase(head.round, phase);
        Seat storage seat = _seatOf(head.round, witness);
        if (!seat.taken) revert RoundLedgerNotWitness(head.round, witness);
        participants().requireActive(witness, Roles.WITNESS);
        if (seat.cosigned) revert RoundLedgerAlreadyCosigned(head.round, witness);
        _checkBlock(head);
        address signer = _signerOf(RoundHashes.ledgerHead(head), signature);
        if (signer != witness) revert RoundLedgerBadSignature(witness, signer);

        seat.cosigned = true;
        emit HeadCosigned(
            head.round,
            witness,
            head.number,
            head.hash,
            head.blocks,
            head.history,
            signature
        );
    }

    /// @dev The chain knows the hashes of its last 256 blocks only; of an older one, what k
    /// witnesses sign has to do.
    function _checkBlock(LedgerHead calldata head) private view {
        if (head.number >= block.number)
            revert RoundLedgerBlockNotPast(block.number, head.number);
        bytes32 known = blockhash(head.number);
        if (known != 0 && known != head.hash)
            revert RoundLedgerBlockMismatch(head.number, known, head.hash);
    }
}
