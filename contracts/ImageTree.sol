// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// @title Whether an image is in a version
/// @notice The tree over a version's image commitments of docs/protocol.md, section 4.2.
library ImageTree {
    bytes32 private constant _IMAGE_TAG = keccak256("fedwitness.image.v1");

    /// @notice Whether a proof leads from an image to a root.
    /// @param root The version's Merkle root; zero, an unknown version's, holds nothing.
    /// @param image The image's commitment.
    /// @param proof The nodes from its leaf to the root.
    /// @return True where it does.
    function holds(
        bytes32 root,
        bytes32 image,
        bytes32[] calldata proof
    ) internal pure returns (bool) {
        // Hashed twice: the tree would take 64 bytes hashed once for one of its inner nodes.
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(_IMAGE_TAG, image))));
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }
}
