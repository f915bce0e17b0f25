// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IAccessLogs} from "../interfaces/IAccessLogs.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Roles} from "../Roles.sol";

contract AccessLogsTest is Federation {
    bytes32 private constant _ROOT = keccak256("root");

    address private _hospital;

    function setUp() public override {
        super.setUp();
        _hospital = hospitals[0];
    }

    function testAHospitalAnchorsItsNextEntries() public {
        vm.expectEmit(true, true, true, true, address(accessLogs));
        emit IAccessLogs.LogAnchored(_hospital, 1, _ROOT, 0, 1024);
        _assert(_anchor(_hospital, _ROOT, 0, 1024) == 1, "first batch");
        _assert(_anchor(_hospital, _ROOT, 1024, 5) == 2, "second batch");
        (uint64 batches, uint64 entries) = accessLogs.anchored(_hospital);
        _assert(batches == 2 && entries == 1029, "length");
    }

    function testEachHospitalHasItsOwnLog() public {
        _anchor(_hospital, _ROOT, 0, 3);
        _anchor(hospitals[1], _ROOT, 0, 4);
        (, uint64 entries) = accessLogs.anchored(hospitals[1]);
        _assert(entries == 4, "its own entries");
    }

    function testNoEntryIsLeftOutOrAnchoredTwice(uint64 first) public {
        _anchor(_hospital, _ROOT, 0, 3);
        if (first == 3) first = 0;
        vm.expectRevert(
            abi.encodeWithSelector(IAccessLogs.AccessLogsOutOfOrder.selector, 3, first)
        );
        _anchor(_hospital, _ROOT, first, 1);
        (uint64 batches, uint64 entries) = accessLogs.anchored(_hospital);
        _assert(batches == 1 && entries == 3, "nothing changed");
    }

    function testAnEmptyBatchIsRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IAccessLogs.AccessLogsEmptyBatch.selector));
        _anchor(_hospital, _ROOT, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IAccessLogs.AccessLogsEmptyBatch.selector));
        _anchor(_hospital, bytes32(0), 0, 1);
    }

    function testOnlyAnActiveHospitalAnchors() public {
        vm.expectRevert(_unknownParty(researcher, Roles.HOSPITAL));
        _anchor(researcher, _ROOT, 0, 1);
        _suspend(_hospital);
        vm.expectRevert(_suspendedParty(_hospital));
        _anchor(_hospital, _ROOT, 0, 1);
    }

    function testEachEntryIsProvedAndNoOther(uint256 entries, bytes32 other) public {
        entries = _bound(entries, 1, 9);
        bytes32[] memory leaves = new bytes32[](entries);
        for (uint256 i = 0; i < entries; ++i) leaves[i] = keccak256(abi.encode("look", i));
        _anchor(_hospital, MerkleTree.rootOf(leaves), 0, uint32(entries));
        for (uint256 i = 0; i < entries; ++i) {
            bytes32[] memory proof = MerkleTree.proofOf(leaves, i);
            _assert(accessLogs.isAnchored(_hospital, 1, leaves[i], proof), "its proof holds");
            _assert(!accessLogs.isAnchored(_hospital, 1, other, proof), "another leaf's does not");
        }
    }

    function testNothingIsProvedByABatchThatIsNotThere() public {
        bytes memory refusal = abi.encodeWithSelector(
            IAccessLogs.AccessLogsUnknownBatch.selector,
            _hospital,
            1
        );
        vm.expectRevert(refusal);
        accessLogs.isAnchored(_hospital, 1, bytes32(0), new bytes32[](0));
    }

    function testItKnowsItsFederation() public view {
        _assert(address(accessLogs.participants()) == address(participants), "participants");
        _assert(accessLogs.deployedAt() <= block.number, "deployment");
    }

    function _anchor(
        address hospital,
        bytes32 root,
        uint64 first,
        uint32 entries
    ) private returns (uint256) {
        vm.prank(hospital);
        return accessLogs.anchor(root, first, entries);
    }
}
