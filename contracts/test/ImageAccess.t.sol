// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {IImageAccess} from "../interfaces/IImageAccess.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Roles} from "../Roles.sol";

contract ImageAccessTest is Federation {
    uint64 private constant _EXPIRY = uint64(NOW) + 7 days;

    bytes32[] private _images;
    bytes32 private _scans;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 5; ++i) _images.push(sha256(abi.encode(i)));
        IDatasetRegistry.Terms memory terms = _versionTerms();
        terms.name = "scans";
        terms.merkleRoot = MerkleTree.rootOf(_leaves());
        _scans = _register(hospitals[0], terms);
    }

    function testAHospitalGrantsSightOfAWholeVersion() public {
        vm.expectEmit(true, true, true, true, address(access));
        emit IImageAccess.AccessGranted(
            1,
            researcher,
            _scans,
            hospitals[0],
            bytes32(0),
            PURPOSE,
            _EXPIRY
        );
        uint256 grantId = _grant();
        IImageAccess.Grant memory granted = access.grantOf(grantId);
        _assert(granted.version == _scans && granted.image == 0, "version");
        _assert(granted.hospital == hospitals[0], "hospital");
        _assert(granted.researcher == researcher, "researcher");
        _assert(granted.purpose == PURPOSE && granted.expiry == _EXPIRY, "purpose and time");
        _assert(!granted.revoked && access.isLive(grantId), "live");
    }

    function testAHospitalGrantsSightOfEachImage() public {
        for (uint256 i = 0; i < _images.length; ++i) {
            bytes32[] memory proof = MerkleTree.proofOf(_leaves(), i);
            uint256 grantId = _grantImage(_images[i], proof);
            _assert(access.grantOf(grantId).image == _images[i], "image");
            _assert(access.isLive(grantId), "live");
        }
    }

    function testAnImageOutsideTheVersionIsRefused(bytes32 image) public {
        bytes32[] memory proof = MerkleTree.proofOf(_leaves(), 0);
        if (image == 0) image = bytes32(uint256(1));
        vm.expectRevert(_notInVersion(image));
        _grantImage(image, proof);
    }

    function testAWholeVersionNeedsNoProof() public {
        bytes32[] memory proof = MerkleTree.proofOf(_leaves(), 0);
        vm.expectRevert(_notInVersion(bytes32(0)));
        _grantImage(bytes32(0), proof);
    }

    function testOnlyAnActiveHospitalGrantsToAnActiveResearcher() public {
        vm.expectRevert(_unknownParty(stranger, Roles.HOSPITAL));
        _grantAs(stranger, researcher, _scans, _EXPIRY);
        vm.expectRevert(_unknownParty(stranger, Roles.RESEARCHER));
        _grantAs(hospitals[0], stranger, _scans, _EXPIRY);
        _suspend(researcher);
        vm.expectRevert(_suspendedParty(researcher));
        _grant();
        _suspend(hospitals[0]);
        vm.expectRevert(_suspendedParty(hospitals[0]));
        _grant();
    }

    function testAForeignVersionIsRefused() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotOwner.selector,
                versions[1],
                hospitals[1],
                hospitals[0]
            )
        );
        _grantAs(hospitals[0], researcher, versions[1], _EXPIRY);
    }

    function testAnExpiryMustLieAhead(uint64 expiry) public {
        expiry = uint64(_bound(expiry, 0, NOW));
        vm.expectRevert(
            abi.encodeWithSelector(IImageAccess.ImageAccessExpiryInPast.selector, expiry, NOW)
        );
        _grantAs(hospitals[0], researcher, _scans, expiry);
    }

    function testARevokedGrantIsDeadForGood() public {
        uint256 grantId = _grant();
        vm.expectEmit(true, false, false, true, address(access));
        emit IImageAccess.AccessRevoked(grantId);
        vm.prank(hospitals[0]);
        access.revoke(grantId);
        _assert(access.grantOf(grantId).revoked && !access.isLive(grantId), "dead");

        vm.expectRevert(
            abi.encodeWithSelector(IImageAccess.ImageAccessAlreadyRevoked.selector, grantId)
        );
        vm.prank(hospitals[0]);
        access.revoke(grantId);
    }

    function testASuspendedHospitalStillRevokes() public {
        uint256 grantId = _grant();
        _suspend(hospitals[0]);
        vm.prank(hospitals[0]);
        access.revoke(grantId);
        _assert(access.grantOf(grantId).revoked, "revoked");
    }

    function testOnlyTheGrantingHospitalRevokes() public {
        uint256 grantId = _grant();
        vm.expectRevert(
            abi.encodeWithSelector(
                IImageAccess.ImageAccessNotOwner.selector,
                _scans,
                hospitals[0],
                hospitals[1]
            )
        );
        vm.prank(hospitals[1]);
        access.revoke(grantId);
    }

    function testAnUnknownGrantIsRefusedAndNotLive(uint256 grantId) public {
        bytes memory refusal = abi.encodeWithSelector(
            IImageAccess.ImageAccessUnknownGrant.selector,
            grantId
        );
        vm.expectRevert(refusal);
        access.grantOf(grantId);
        vm.expectRevert(refusal);
        access.revoke(grantId);
        _assert(!access.isLive(grantId), "not live");
    }

    function testAGrantEndsAfterItsExpiry() public {
        uint256 grantId = _grant();
        vm.warp(_EXPIRY);
        _assert(access.isLive(grantId), "live to the last second");
        vm.warp(_EXPIRY + 1);
        _assert(!access.isLive(grantId), "expired");
    }

    function testASuspensionEndsAGrantUntilReinstatement() public {
        uint256 grantId = _grant();
        _suspend(researcher);
        _assert(!access.isLive(grantId), "researcher suspended");
        vm.prank(steward);
        participants.reinstate(researcher);
        _assert(access.isLive(grantId), "live again");
        _suspend(hospitals[0]);
        _assert(!access.isLive(grantId), "hospital suspended");
    }

    function testAWithdrawalOrAPurposeTakenBackEndsAGrant() public {
        uint256 grantId = _grant();
        vm.prank(hospitals[0]);
        datasets.permitPurposes(_scans, 0);
        _assert(!access.isLive(grantId), "purpose taken back");
        vm.prank(hospitals[0]);
        datasets.permitPurposes(_scans, uint48(1) << PURPOSE);
        _assert(access.isLive(grantId), "live again");
        vm.prank(hospitals[0]);
        datasets.withdraw(_scans, "consent");
        _assert(!access.isLive(grantId), "withdrawn");
    }

    function testGrantsAreListedInPages(uint256 offset, uint256 limit) public {
        for (uint256 i = 0; i < 5; ++i) _grant();
        offset = offset % 8;
        if (limit % 2 == 0) limit = limit % 8;
        uint256 left = offset < 5 ? 5 - offset : 0;
        uint256[] memory page = access.grantsOf(researcher, offset, limit);
        _assert(page.length == (limit < left ? limit : left), "length of the page");
        for (uint256 i = 0; i < page.length; ++i) _assert(page[i] == offset + i + 1, "grant id");
        _assert(access.grantsOf(stranger, 0, 10).length == 0, "none");
    }

    function testTheRegistriesAndTheBlockOfDeploymentAreKept() public {
        vm.roll(77);
        IImageAccess other = IImageAccess(
            _deploy("ImageAccess", abi.encode(participants, datasets))
        );
        _assert(address(other.participants()) == address(participants), "participants");
        _assert(address(other.datasets()) == address(datasets), "datasets");
        _assert(other.deployedAt() == 77, "deployed at block 77");
    }

    function _grant() private returns (uint256) {
        return _grantAs(hospitals[0], researcher, _scans, _EXPIRY);
    }

    function _grantAs(
        address hospital,
        address to,
        bytes32 version,
        uint64 expiry
    ) private returns (uint256) {
        vm.prank(hospital);
        return access.grant(to, version, bytes32(0), new bytes32[](0), PURPOSE, expiry);
    }

    function _grantImage(bytes32 image, bytes32[] memory proof) private returns (uint256) {
        vm.prank(hospitals[0]);
        return access.grant(researcher, _scans, image, proof, PURPOSE, _EXPIRY);
    }

    function _leaves() private view returns (bytes32[] memory leaves) {
        bytes32 tag = keccak256("fedwitness.image.v1");
        leaves = new bytes32[](_images.length);
        for (uint256 i = 0; i < leaves.length; ++i)
            leaves[i] = keccak256(abi.encode(keccak256(abi.encode(tag, _images[i]))));
    }

    function _notInVersion(bytes32 image) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IImageAccess.ImageAccessNotInVersion.selector,
                _scans,
                image
            );
    }
}
