// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {MerkleTree} from "./MerkleTree.sol";

/// @title A federation with images to test on
/// @notice The first hospital has a version of five images whose tree is known.
abstract contract ImageFederation is Federation {
    bytes32[] internal images;
    bytes32 internal scans;

    function setUp() public virtual override {
        super.setUp();
        for (uint256 i = 0; i < 5; ++i) images.push(sha256(abi.encode(i)));
        scans = _register(hospitals[0], _scanTerms("scans", bytes32(0)));
    }

    function _erase(address hospital, bytes32 version, uint256 image) internal {
        bytes32[] memory proof = _proofOf(image);
        vm.prank(hospital);
        datasets.erase(version, images[image], proof);
    }

    function _scanTerms(
        string memory name,
        bytes32 previous
    ) internal view returns (IDatasetRegistry.Terms memory terms) {
        terms = _versionTerms();
        terms.name = name;
        terms.previous = previous;
        terms.merkleRoot = MerkleTree.rootOf(_leaves());
    }

    function _proofOf(uint256 image) internal view returns (bytes32[] memory) {
        return MerkleTree.proofOf(_leaves(), image);
    }

    function _leaves() private view returns (bytes32[] memory leaves) {
        bytes32 tag = keccak256("fedwitness.image.v1");
        leaves = new bytes32[](images.length);
        for (uint256 i = 0; i < leaves.length; ++i)
            leaves[i] = keccak256(abi.encode(keccak256(abi.encode(tag, images[i]))));
    }
}
