// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MerkleTree} from "./MerkleTree.sol";

contract MerkleRootTest {
    error AssertionFailed(uint256 leaf);

    function testEveryLeafOfEveryTreeHasAProof(uint256 seed, uint256 size) public pure {
        bytes32[] memory leaves = new bytes32[](1 + (size % 20));
        for (uint256 i = 0; i < leaves.length; ++i) leaves[i] = keccak256(abi.encode(seed, i));
        bytes32 root = MerkleTree.rootOf(leaves);
        for (uint256 i = 0; i < leaves.length; ++i) {
            bytes32[] memory proof = MerkleTree.proofOf(leaves, i);
            if (!MerkleProof.verify(proof, root, leaves[i])) revert AssertionFailed(i);
        }
    }

    function testATreeOfOneLeafIsTheLeaf(bytes32 leaf) public pure {
        bytes32[] memory leaves = new bytes32[](1);
        leaves[0] = leaf;
        if (MerkleTree.rootOf(leaves) != leaf) revert AssertionFailed(0);
    }

    function testAnOddLastNodeMovesUpUnchanged() public pure {
        bytes32[] memory leaves = new bytes32[](3);
        (leaves[0], leaves[1], leaves[2]) = (bytes32("c"), bytes32("b"), bytes32("a"));
        bytes32 pair = keccak256(abi.encode(bytes32("b"), bytes32("c")));
        bytes32 root = pair < bytes32("a")
            ? keccak256(abi.encode(pair, bytes32("a")))
            : keccak256(abi.encode(bytes32("a"), pair));
        if (MerkleTree.rootOf(leaves) != root) revert AssertionFailed(2);
    }
}
