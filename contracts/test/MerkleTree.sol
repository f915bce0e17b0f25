// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {MerkleRoot} from "../MerkleRoot.sol";

/// @title Merkle trees to test with
library MerkleTree {
    /// @dev The leaves survive, which MerkleRoot overwrites.
    function rootOf(bytes32[] memory leaves) internal pure returns (bytes32) {
        bytes32[] memory copy = new bytes32[](leaves.length);
        for (uint256 i = 0; i < leaves.length; ++i) copy[i] = leaves[i];
        return MerkleRoot.compute(copy);
    }

    /// @dev Builds each level anew, as docs/protocol.md describes it, and gathers siblings.
    function proofOf(
        bytes32[] memory level,
        uint256 place
    ) internal pure returns (bytes32[] memory proof) {
        while (level.length > 1) {
            uint256 sibling = place ^ 1;
            if (sibling < level.length) proof = _append(proof, level[sibling]);
            level = _above(level);
            place /= 2;
        }
    }

    function _above(bytes32[] memory level) private pure returns (bytes32[] memory above) {
        above = new bytes32[]((level.length + 1) / 2);
        for (uint256 i = 0; i < level.length / 2; ++i)
            above[i] = Hashes.commutativeKeccak256(level[2 * i], level[2 * i + 1]);
        if (level.length % 2 == 1) above[above.length - 1] = level[level.length - 1];
    }

    function _append(
        bytes32[] memory items,
        bytes32 item
    ) private pure returns (bytes32[] memory longer) {
        longer = new bytes32[](items.length + 1);
        for (uint256 i = 0; i < items.length; ++i) longer[i] = items[i];
        longer[items.length] = item;
    }
}
