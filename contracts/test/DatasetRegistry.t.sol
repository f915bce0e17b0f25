// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ImageFederation} from "./ImageFederation.sol";
import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {Roles} from "../Roles.sol";

contract DatasetRegistryTest is ImageFederation {
    function testAVersionIsNamedByItsContent() public view {
        bytes32 dataset = _datasetOf(hospitals[0], "brains");
        bytes32 version = keccak256(
            abi.encode(
                block.chainid,
                address(datasets),
                hospitals[0],
                "brains",
                keccak256("images"),
                bytes32(0)
            )
        );
        _assert(versions[0] == version, "version id");
        _assert(datasets.headOf(dataset) == version, "head");
        IDatasetRegistry.Version memory found = datasets.versionOf(version);
        _assert(
            keccak256(abi.encode(found)) ==
                keccak256(
                    abi.encode(
                        IDatasetRegistry.Version({
                            hospital: hospitals[0],
                            state: IDatasetRegistry.State.Active,
                            purposes: uint48(1) << PURPOSE,
                            images: IMAGES,
                            profile: 1,
                            modality: "MR",
                            merkleRoot: keccak256("images"),
                            attestation: keccak256("report"),
                            dataset: dataset,
                            previous: bytes32(0)
                        })
                    )
                ),
            "all that was registered"
        );
        _assert(address(datasets.participants()) == address(participants), "registry");
    }

    function testRegisteringIsAnnounced() public {
        IDatasetRegistry.Terms memory terms = _named("other brains");
        bytes32 dataset = _datasetOf(hospitals[0], terms.name);
        bytes32 version = _versionOf(hospitals[0], terms);
        vm.expectEmit(true, true, true, true, address(datasets));
        emit IDatasetRegistry.VersionRegistered(version, dataset, hospitals[0], terms);
        _assert(_register(hospitals[0], terms) == version, "returned");
    }

    function testTheBlockOfDeploymentIsKept() public {
        vm.roll(77);
        address other = _deploy("DatasetRegistry", abi.encode(participants));
        _assert(IDatasetRegistry(other).deployedAt() == 77, "deployed at block 77");
    }

    function testOnlyAnActiveHospitalRegisters() public {
        _expectRefused(_unknownParty(stranger, Roles.HOSPITAL), stranger, _versionTerms());
        _suspend(hospitals[0]);
        _expectRefused(_suspendedParty(hospitals[0]), hospitals[0], _named("more"));
    }

    function testFaultyTermsAreRefusedByName() public {
        IDatasetRegistry.Terms memory terms = _named("");
        _expectInvalid("name", terms);
        _expectInvalid("name", _named(_text(65)));
        terms = _named("more");
        terms.merkleRoot = 0;
        _expectInvalid("merkleRoot", terms);
        terms = _named("more");
        terms.images = 0;
        _expectInvalid("images", terms);
        terms = _named("more");
        terms.modality = 0;
        _expectInvalid("modality", terms);
        terms = _named("more");
        terms.attestation = 0;
        _expectInvalid("attestation", terms);
    }

    function testWithoutTheBasicProfileNoReportIsNeeded() public {
        IDatasetRegistry.Terms memory terms = _named(_text(64));
        terms.profile = 6;
        terms.attestation = 0;
        bytes32 version = _register(hospitals[0], terms);
        _expectUnusable(_fault("NotDeidentified", version), hospitals[0], version);
    }

    function testTheSameVersionTwiceIsRefused() public {
        _expectRefused(_fault("AlreadyRegistered", versions[0]), hospitals[0], _versionTerms());
    }

    function testASuccessorMustNameTheHead() public {
        bytes32 dataset = _datasetOf(hospitals[0], "brains");
        bytes32 second = _register(hospitals[0], _successor(versions[0], "second"));
        bytes memory refusal = abi.encodeWithSelector(
            IDatasetRegistry.DatasetRegistryNotHead.selector,
            dataset,
            second,
            versions[0]
        );
        _expectRefused(refusal, hospitals[0], _successor(versions[0], "third"));
        _expectRefused(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotHead.selector,
                _datasetOf(hospitals[0], "new"),
                bytes32(0),
                second
            ),
            hospitals[0],
            _withName(_successor(second, "third"), "new")
        );
    }

    function testASuccessorSupersedesTheHead() public {
        IDatasetRegistry.Terms memory terms = _successor(versions[0], "second");
        bytes32 second = _versionOf(hospitals[0], terms);
        vm.expectEmit(true, true, false, true, address(datasets));
        emit IDatasetRegistry.VersionSuperseded(versions[0], second);
        _register(hospitals[0], terms);
        _assert(_stateOf(versions[0]) == IDatasetRegistry.State.Superseded, "superseded");
        _assert(datasets.headOf(_datasetOf(hospitals[0], "brains")) == second, "new head");
        _expectUnusable(_fault("Superseded", versions[0]), hospitals[0], versions[0]);
    }

    function testAWithdrawnHeadStaysWithdrawnWhenItGetsASuccessor() public {
        _withdraw(0);
        bytes32 second = _register(hospitals[0], _successor(versions[0], "second"));
        _assert(_stateOf(versions[0]) == IDatasetRegistry.State.Withdrawn, "withdrawn");
        _assert(_stateOf(second) == IDatasetRegistry.State.Active, "successor active");
    }

    function testASupersededVersionCanBeWithdrawn() public {
        _register(hospitals[0], _successor(versions[0], "second"));
        _withdraw(0);
        _assert(_stateOf(versions[0]) == IDatasetRegistry.State.Withdrawn, "withdrawn");
    }

    function testAWithdrawnVersionIsOutForGood() public {
        vm.expectEmit(true, false, false, true, address(datasets));
        emit IDatasetRegistry.VersionWithdrawn(versions[0], "consent");
        _withdraw(0);
        _expectUnusable(_fault("Withdrawn", versions[0]), hospitals[0], versions[0]);
        vm.expectRevert(_fault("Withdrawn", versions[0]));
        vm.prank(hospitals[0]);
        datasets.withdraw(versions[0], "again");
        vm.expectRevert(_fault("Withdrawn", versions[0]));
        vm.prank(hospitals[0]);
        datasets.permitPurposes(versions[0], 1);
    }

    function testASuspendedHospitalStillWithdraws() public {
        _suspend(hospitals[0]);
        _withdraw(0);
        _assert(_stateOf(versions[0]) == IDatasetRegistry.State.Withdrawn, "withdrawn");
    }

    function testAnErasedImageIsOutAndWithItItsActiveVersion() public {
        vm.expectEmit(true, true, true, true, address(datasets));
        emit IDatasetRegistry.ImageErased(scans, images[2], hospitals[0]);
        vm.expectEmit(true, false, false, true, address(datasets));
        emit IDatasetRegistry.VersionWithdrawn(scans, "image erased");
        _erase(hospitals[0], scans, 2);
        _assert(datasets.isErased(hospitals[0], images[2]), "erased");
        _assert(!datasets.isErased(hospitals[0], images[1]), "no other image");
        _assert(!datasets.isErased(hospitals[1], images[2]), "no other hospital's");
        _assert(_stateOf(scans) == IDatasetRegistry.State.Withdrawn, "withdrawn");
    }

    function testAnImageIsErasedFromAVersionInAnyStateOnce() public {
        bytes32 second = _register(hospitals[0], _scanTerms("scans", scans));
        _erase(hospitals[0], scans, 0);
        _assert(_stateOf(scans) == IDatasetRegistry.State.Superseded, "superseded");
        _assert(_stateOf(second) == IDatasetRegistry.State.Active, "nothing said of the next");
        _erase(hospitals[0], second, 0);
        _assert(_stateOf(second) == IDatasetRegistry.State.Withdrawn, "withdrawn");
        _erase(hospitals[0], second, 1);
        bytes memory refusal = abi.encodeWithSelector(
            IDatasetRegistry.DatasetRegistryAlreadyErased.selector,
            second,
            images[0]
        );
        vm.expectRevert(refusal);
        _erase(hospitals[0], second, 0);
    }

    function testASuspendedHospitalStillErases() public {
        _suspend(hospitals[0]);
        _erase(hospitals[0], scans, 0);
        _assert(datasets.isErased(hospitals[0], images[0]), "erased");
    }

    function testOnlyTheOwnerErasesAndOnlyWhatIsThere(bytes32 image) public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotOwner.selector,
                scans,
                hospitals[0],
                hospitals[1]
            )
        );
        _erase(hospitals[1], scans, 0);
        vm.expectRevert(_fault("UnknownVersion", "none"));
        _erase(hospitals[0], "none", 0);
        bytes32[] memory proof = _proofOf(0);
        if (image == images[0]) image = images[1];
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotInVersion.selector,
                scans,
                image
            )
        );
        vm.prank(hospitals[0]);
        datasets.erase(scans, image, proof);
    }

    function testOnlyTheOwnerWithdrawsAndPermits() public {
        vm.expectRevert(_notOwner(hospitals[1]));
        vm.prank(hospitals[1]);
        datasets.withdraw(versions[0], "spite");
        vm.expectRevert(_notOwner(hospitals[1]));
        vm.prank(hospitals[1]);
        datasets.permitPurposes(versions[0], 1);
        vm.expectRevert(_fault("UnknownVersion", "none"));
        vm.prank(hospitals[0]);
        datasets.withdraw("none", "gone");
    }

    function testPurposesAreReplaced(uint48 purposes, uint8 purpose) public {
        vm.expectEmit(true, false, false, true, address(datasets));
        emit IDatasetRegistry.PurposesChanged(versions[0], purposes);
        vm.prank(hospitals[0]);
        datasets.permitPurposes(versions[0], purposes);
        bool permitted = purpose < 48 && (uint256(purposes) >> purpose) % 2 == 1;
        if (!permitted)
            vm.expectRevert(
                abi.encodeWithSelector(
                    IDatasetRegistry.DatasetRegistryPurposeNotPermitted.selector,
                    versions[0],
                    purpose
                )
            );
        datasets.usableImages(hospitals[0], _list(versions[0]), purpose);
    }

    function testASuspendedHospitalPermitsNothingAndASupersededVersionTakesNothing() public {
        _register(hospitals[0], _successor(versions[0], "second"));
        vm.expectRevert(_fault("Superseded", versions[0]));
        vm.prank(hospitals[0]);
        datasets.permitPurposes(versions[0], 1);
        _suspend(hospitals[0]);
        vm.expectRevert(_suspendedParty(hospitals[0]));
        vm.prank(hospitals[0]);
        datasets.permitPurposes(versions[0], 1);
    }

    function testImagesOfAllVersionsAddUp(uint32 more) public {
        if (more == 0) more = 1;
        IDatasetRegistry.Terms memory terms = _named("more");
        terms.images = more;
        bytes32 second = _register(hospitals[0], terms);
        uint256 images = datasets.usableImages(
            hospitals[0],
            _ascending(versions[0], second),
            PURPOSE
        );
        _assert(images == uint256(IMAGES) + more, "sum");
    }

    function testAPurposeThatOneOfTheVersionsForbidsIsRefused(
        uint48 one,
        uint48 other,
        uint8 purpose
    ) public {
        purpose %= 48;
        IDatasetRegistry.Terms memory terms = _named("more");
        terms.purposes = other;
        bytes32 second = _register(hospitals[0], terms);
        vm.prank(hospitals[0]);
        datasets.permitPurposes(versions[0], one);
        try
            datasets.usableImages(hospitals[0], _ascending(versions[0], second), purpose)
        returns (uint256) {
            _assert(((one & other) >> purpose) & 1 == 1, "both permit it");
        } catch {
            _assert(((one & other) >> purpose) & 1 == 0, "one forbids it");
        }
    }

    function testVersionsMustAscendWithoutRepetition() public {
        bytes32[] memory both = _ascending(versions[0], _register(hospitals[0], _named("more")));
        (both[0], both[1]) = (both[1], both[0]);
        _expectNotAscending(both);
        both[0] = both[1];
        _expectNotAscending(both);
        vm.expectRevert(
            abi.encodeWithSelector(IDatasetRegistry.DatasetRegistryNoVersions.selector)
        );
        datasets.usableImages(hospitals[0], new bytes32[](0), PURPOSE);
    }

    function testAnUnknownOrForeignVersionIsUnusable() public {
        _expectUnusable(_fault("UnknownVersion", "none"), hospitals[0], "none");
        _expectUnusable(_notOwner(hospitals[1]), hospitals[1], versions[0]);
    }

    function _expectRefused(
        bytes memory refusal,
        address hospital,
        IDatasetRegistry.Terms memory terms
    ) private {
        vm.expectRevert(refusal);
        _register(hospital, terms);
    }

    function _expectInvalid(string memory field, IDatasetRegistry.Terms memory terms) private {
        bytes memory refusal = abi.encodeWithSelector(
            IDatasetRegistry.DatasetRegistryInvalidTerms.selector,
            field
        );
        _expectRefused(refusal, hospitals[0], terms);
    }

    function _expectUnusable(bytes memory refusal, address hospital, bytes32 version) private {
        vm.expectRevert(refusal);
        datasets.usableImages(hospital, _list(version), PURPOSE);
    }

    function _expectNotAscending(bytes32[] memory pair) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryVersionsNotAscending.selector,
                pair[0],
                pair[1]
            )
        );
        datasets.usableImages(hospitals[0], pair, PURPOSE);
    }

    function _stateOf(bytes32 version) private view returns (IDatasetRegistry.State) {
        return datasets.versionOf(version).state;
    }

    function _datasetOf(address hospital, string memory name) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(datasets), hospital, name));
    }

    function _versionOf(
        address hospital,
        IDatasetRegistry.Terms memory terms
    ) private view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    block.chainid,
                    address(datasets),
                    hospital,
                    terms.name,
                    terms.merkleRoot,
                    terms.previous
                )
            );
    }

    function _notOwner(address account) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotOwner.selector,
                versions[0],
                hospitals[0],
                account
            );
    }

    /// @dev The registry's errors whose one argument is the version.
    function _fault(string memory what, bytes32 version) private pure returns (bytes memory) {
        return
            abi.encodeWithSignature(
                string.concat("DatasetRegistry", what, "(bytes32)"),
                version
            );
    }

    function _named(
        string memory name
    ) private pure returns (IDatasetRegistry.Terms memory terms) {
        return _withName(_versionTerms(), name);
    }

    function _withName(
        IDatasetRegistry.Terms memory terms,
        string memory name
    ) private pure returns (IDatasetRegistry.Terms memory) {
        terms.name = name;
        return terms;
    }

    function _successor(
        bytes32 previous,
        string memory images
    ) private pure returns (IDatasetRegistry.Terms memory terms) {
        terms = _versionTerms();
        terms.previous = previous;
        terms.merkleRoot = keccak256(bytes(images));
    }

    function _ascending(bytes32 a, bytes32 b) private pure returns (bytes32[] memory both) {
        both = new bytes32[](2);
        (both[0], both[1]) = a < b ? (a, b) : (b, a);
    }
}
