// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @title Merkle roots on chain
/// @notice The tree of docs/protocol.md, section 4.2; OpenZeppelin's MerkleProof takes its proofs.
library MerkleRoot {
    /// @notice Computes the root; level by level, an odd last node moves up unchanged.
    /// @param nodes The leaves, at least one, in their order; overwritten.
    /// @return The root.
    function compute(bytes32[] memory nodes) internal pure returns (bytes32) {
        for (uint256 width = nodes.length; width > 1; width = (width + 1) / 2) {
            for (uint256 left = 0; left < width; left += 2) {
                nodes[left / 2] = left + 1 < width
                    ? Hashes.commutativeKeccak256(nodes[left], nodes[left + 1])
                    : nodes[left];
            }
        }
        return nodes[0];
    }
}
