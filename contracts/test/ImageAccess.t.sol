// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ImageFederation} from "./ImageFederation.sol";
import {IImageAccess} from "../interfaces/IImageAccess.sol";
import {Roles} from "../Roles.sol";

contract ImageAccessTest is ImageFederation {
    uint64 private constant _EXPIRY = uint64(NOW) + 7 days;

    function testAHospitalGrantsSightOfAWholeVersion() public {
        vm.expectEmit(true, true, true, true, address(access));
        emit IImageAccess.AccessGranted(
            _idOf(_grantTerms(bytes32(0))),
            researcher,
            scans,
            hospitals[0],
            bytes32(0),
            PURPOSE,
            _EXPIRY,
            hospitals[0]
        );
        bytes32 grantId = _grant();
        _assert(grantId == _idOf(_grantTerms(bytes32(0))), "the identifier");
        _assert(access.stateOf(grantId) == IImageAccess.State.Granted, "granted");
        _assert(access.isLive(_grantTerms(bytes32(0))), "live");
    }

    function testAHospitalGrantsSightOfEachImage() public {
        for (uint256 i = 0; i < images.length; ++i) {
            bytes32[] memory proof = _proofOf(i);
            _grantImage(images[i], proof);
            _assert(access.isLive(_grantTerms(images[i])), "live");
        }
        _assert(!access.isLive(_grantTerms(bytes32(0))), "but not of the whole version");
    }

    function testAnImageOutsideTheVersionIsRefused(bytes32 image) public {
        bytes32[] memory proof = _proofOf(0);
        if (image == 0 || image == images[0]) image = bytes32(uint256(1));
        vm.expectRevert(_notInVersion(image));
        _grantImage(image, proof);
    }

    function testAWholeVersionNeedsNoProof() public {
        bytes32[] memory proof = _proofOf(0);
        vm.expectRevert(_notInVersion(bytes32(0)));
        _grantImage(bytes32(0), proof);
    }

    function testOnlyAnActiveHospitalGrants() public {
        vm.expectRevert(_unknownParty(stranger, Roles.HOSPITAL));
        _grantAs(stranger, stranger, scans, _EXPIRY);
        _suspend(hospitals[0]);
        vm.expectRevert(_suspendedParty(hospitals[0]));
        _grant();
    }

    function testAGrantToNobodyEnrolledIsNotLiveUntilEnrolment() public {
        IImageAccess.Grant memory terms = _grantTerms(bytes32(0));
        terms.researcher = stranger;
        vm.prank(hospitals[0]);
        access.grant(terms, new bytes32[](0));
        _assert(!access.isLive(terms), "nobody's");
        _enroll(stranger, Roles.RESEARCHER);
        _assert(access.isLive(terms), "a researcher's");
    }

    function testTheSameTermsAreGrantedOnce() public {
        bytes32 grantId = _grant();
        bytes memory refusal = abi.encodeWithSelector(
            IImageAccess.ImageAccessAlreadyGranted.selector,
            grantId
        );
        vm.expectRevert(refusal);
        _grant();
        _revoke(hospitals[0]);
        vm.expectRevert(refusal);
        _grant();
    }

    function testADataStewardGrantsAndRevokesInAHospitalsName() public {
        uint64 until = uint64(NOW) + 1 days;
        vm.expectEmit(true, true, false, true, address(access));
        emit IImageAccess.DelegationChanged(hospitals[0], stranger, until);
        _delegate(until);
        _assert(access.delegatedUntil(hospitals[0], stranger) == until, "until");
        _grantAs(stranger, hospitals[0], scans, _EXPIRY);
        _assert(access.isLive(_grantTerms(bytes32(0))), "live");
        vm.warp(until);
        _revoke(stranger);
        _assert(!access.isLive(_grantTerms(bytes32(0))), "revoked");
    }

    function testADelegationEnds(uint64 until) public {
        until = uint64(_bound(until, 0, NOW - 1));
        _delegate(until);
        bytes memory refusal = abi.encodeWithSelector(
            IImageAccess.ImageAccessNotDelegate.selector,
            hospitals[0],
            stranger
        );
        vm.expectRevert(refusal);
        _grantAs(stranger, hospitals[0], scans, _EXPIRY);
        _grant();
        vm.expectRevert(refusal);
        _revoke(stranger);
    }

    function testADelegationIsOfOneHospitalOnly() public {
        _delegate(_EXPIRY);
        vm.expectRevert(
            abi.encodeWithSelector(
                IImageAccess.ImageAccessNotDelegate.selector,
                hospitals[1],
                stranger
            )
        );
        _grantAs(stranger, hospitals[1], versions[1], _EXPIRY);
    }

    function testOnlyAnActiveHospitalDelegates() public {
        vm.expectRevert(_unknownParty(researcher, Roles.HOSPITAL));
        vm.prank(researcher);
        access.delegate(stranger, _EXPIRY);
        _suspend(hospitals[0]);
        vm.expectRevert(_suspendedParty(hospitals[0]));
        _delegate(_EXPIRY);
    }

    function testAGrantOfAForeignVersionIsNeverLive() public {
        _grantAs(hospitals[0], hospitals[0], versions[1], _EXPIRY);
        IImageAccess.Grant memory terms = _grantTerms(bytes32(0));
        terms.version = versions[1];
        _assert(!access.isLive(terms), "another hospital's version");
    }

    function testAnExpiryMustLieAhead(uint64 expiry) public {
        expiry = uint64(_bound(expiry, 0, NOW));
        vm.expectRevert(
            abi.encodeWithSelector(IImageAccess.ImageAccessExpiryInPast.selector, expiry, NOW)
        );
        _grantAs(hospitals[0], hospitals[0], scans, expiry);
    }

    function testARevokedGrantIsDeadForGood() public {
        bytes32 grantId = _grant();
        vm.expectEmit(true, false, false, true, address(access));
        emit IImageAccess.AccessRevoked(grantId, hospitals[0]);
        _revoke(hospitals[0]);
        _assert(access.stateOf(grantId) == IImageAccess.State.Revoked, "revoked");
        _assert(!access.isLive(_grantTerms(bytes32(0))), "dead");

        vm.expectRevert(
            abi.encodeWithSelector(IImageAccess.ImageAccessAlreadyRevoked.selector, grantId)
        );
        _revoke(hospitals[0]);
    }

    function testASuspendedHospitalStillRevokes() public {
        bytes32 grantId = _grant();
        _suspend(hospitals[0]);
        _revoke(hospitals[0]);
        _assert(access.stateOf(grantId) == IImageAccess.State.Revoked, "revoked");
    }

    function testOnlyTheHospitalRevokes() public {
        _grant();
        vm.expectRevert(
            abi.encodeWithSelector(
                IImageAccess.ImageAccessNotDelegate.selector,
                hospitals[0],
                hospitals[1]
            )
        );
        _revoke(hospitals[1]);
    }

    function testAnUnknownGrantIsRefusedAndNotLive(bytes32 image) public {
        IImageAccess.Grant memory terms = _grantTerms(image);
        vm.expectRevert(
            abi.encodeWithSelector(
                IImageAccess.ImageAccessUnknownGrant.selector,
                _idOf(terms)
            )
        );
        vm.prank(hospitals[0]);
        access.revoke(terms);
        _assert(!access.isLive(terms), "not live");
        _assert(access.stateOf(_idOf(terms)) == IImageAccess.State.Unknown, "unknown");
    }

    function testEachTermMakesAnotherGrant(uint256 which, uint256 by) public {
        _grant();
        IImageAccess.Grant memory terms = _grantTerms(bytes32(0));
        by = _bound(by, 1, 200);
        which = which % 6;
        if (which == 0) terms.version = bytes32(uint256(terms.version) ^ by);
        if (which == 1) terms.image = bytes32(by);
        if (which == 2) terms.hospital = address(uint160(terms.hospital) ^ uint160(by));
        if (which == 3) terms.researcher = address(uint160(terms.researcher) ^ uint160(by));
        if (which == 4) terms.purpose = PURPOSE ^ uint8(by);
        if (which == 5) terms.expiry = _EXPIRY ^ uint64(by);
        _assert(!access.isLive(terms), "not the one that was granted");
    }

    function testAGrantEndsAfterItsExpiry() public {
        _grant();
        vm.warp(_EXPIRY);
        _assert(access.isLive(_grantTerms(bytes32(0))), "live to the last second");
        vm.warp(_EXPIRY + 1);
        _assert(!access.isLive(_grantTerms(bytes32(0))), "expired");
    }

    function testAGrantIsLiveToItsExpiryAndNeverAfter(uint64 lasts, uint64 time) public {
        IImageAccess.Grant memory terms = _grantTerms(bytes32(0));
        terms.expiry = uint64(_bound(lasts, NOW + 1, NOW + 365 days));
        vm.prank(hospitals[0]);
        access.grant(terms, new bytes32[](0));
        time = uint64(_bound(time, NOW, NOW + 2 * 365 days));
        vm.warp(time);
        _assert(access.isLive(terms) == (time <= terms.expiry), "live to its expiry");
        vm.prank(hospitals[0]);
        access.revoke(terms);
        _assert(!access.isLive(terms), "not after its revocation");
    }

    function testASuspensionEndsAGrantUntilReinstatement() public {
        _grant();
        _suspend(researcher);
        _assert(!access.isLive(_grantTerms(bytes32(0))), "researcher suspended");
        vm.prank(steward);
        participants.reinstate(researcher);
        _assert(access.isLive(_grantTerms(bytes32(0))), "live again");
        _suspend(hospitals[0]);
        _assert(!access.isLive(_grantTerms(bytes32(0))), "hospital suspended");
    }

    function testAWithdrawalOrAPurposeTakenBackEndsAGrant() public {
        _grant();
        vm.prank(hospitals[0]);
        datasets.permitPurposes(scans, 0);
        _assert(!access.isLive(_grantTerms(bytes32(0))), "purpose taken back");
        vm.prank(hospitals[0]);
        datasets.permitPurposes(scans, uint48(1) << PURPOSE);
        _assert(access.isLive(_grantTerms(bytes32(0))), "live again");
        vm.prank(hospitals[0]);
        datasets.withdraw(scans, "consent");
        _assert(!access.isLive(_grantTerms(bytes32(0))), "withdrawn");
    }

    function testAnErasureEndsTheGrantsOfItsImageInEveryVersion() public {
        bytes32 older = scans;
        scans = _register(hospitals[0], _scanTerms("scans", older));
        for (uint256 i = 0; i < 2; ++i) _grantImage(images[i], _proofOf(i));
        _erase(hospitals[0], older, 0);
        _assert(!access.isLive(_grantTerms(images[0])), "the erased image's");
        _assert(access.isLive(_grantTerms(images[1])), "not another's");
    }

    function testAHospitalErasesNothingOfAnothers() public {
        _grantImage(images[0], _proofOf(0));
        bytes32 copy = _register(hospitals[1], _scanTerms("copied", bytes32(0)));
        _erase(hospitals[1], copy, 0);
        _assert(access.isLive(_grantTerms(images[0])), "still live");
    }

    function testTheRegistriesAndTheBlockOfDeploymentAreKept() public {
        vm.roll(77);
        IImageAccess other = IImageAccess(
            _deploy("ImageAccess", abi.encode(participants, datasets, accessLogs, readings))
        );
        _assert(address(other.participants()) == address(participants), "participants");
        _assert(address(other.datasets()) == address(datasets), "datasets");
        _assert(address(other.accessLogs()) == address(accessLogs), "access logs");
        _assert(address(other.readings()) == address(readings), "readings");
        _assert(other.deployedAt() == 77, "deployed at block 77");
    }

    function _grant() private returns (bytes32) {
        return _grantAs(hospitals[0], hospitals[0], scans, _EXPIRY);
    }

    function _grantAs(
        address sender,
        address hospital,
        bytes32 version,
        uint64 expiry
    ) private returns (bytes32) {
        IImageAccess.Grant memory terms = _grantTerms(bytes32(0));
        terms.hospital = hospital;
        terms.version = version;
        terms.expiry = expiry;
        vm.prank(sender);
        return access.grant(terms, new bytes32[](0));
    }

    function _grantImage(bytes32 image, bytes32[] memory proof) private returns (bytes32) {
        vm.prank(hospitals[0]);
        return access.grant(_grantTerms(image), proof);
    }

    function _revoke(address sender) private {
        vm.prank(sender);
        access.revoke(_grantTerms(bytes32(0)));
    }

    function _delegate(uint64 until) private {
        vm.prank(hospitals[0]);
        access.delegate(stranger, until);
    }

    function _grantTerms(bytes32 image) private view returns (IImageAccess.Grant memory) {
        return
            IImageAccess.Grant({
                version: scans,
                image: image,
                hospital: hospitals[0],
                researcher: researcher,
                purpose: PURPOSE,
                expiry: _EXPIRY
            });
    }

    function _idOf(IImageAccess.Grant memory terms) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(access), terms));
    }

    function _notInVersion(bytes32 image) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IImageAccess.ImageAccessNotInVersion.selector,
                scans,
                image
            );
    }
}
