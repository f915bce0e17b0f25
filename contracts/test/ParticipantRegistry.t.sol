// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Federation} from "./Federation.sol";
import {IParticipantRegistry} from "../interfaces/IParticipantRegistry.sol";
import {Roles} from "../Roles.sol";

contract ParticipantRegistryTest is Federation {
    bytes32 private constant _KEY = keccak256("key");

    function testTheFirstStewardIsEnrolled() public {
        vm.roll(77);
        IParticipantRegistry registry = IParticipantRegistry(
            _deploy("ParticipantRegistry", abi.encode(stranger, _KEY, "First"))
        );
        (bytes32 key, bool suspended, string memory name) = registry.participantOf(stranger);
        _assert(key == _KEY && !suspended, "key on file, not suspended");
        _assert(keccak256(bytes(name)) == keccak256("First"), "name on file");
        _assert(registry.isActive(stranger, Roles.STEWARD), "active steward");
        _assert(registry.deployedAt() == 77, "deployed at block 77");
    }

    function testAStewardEnrolsEveryRole() public {
        bytes32[6] memory roles = [
            Roles.HOSPITAL,
            Roles.AGGREGATOR,
            Roles.WITNESS,
            Roles.AUDITOR,
            Roles.RESEARCHER,
            Roles.STEWARD
        ];
        for (uint256 i = 0; i < roles.length; ++i) {
            vm.expectEmit(true, true, false, true, address(participants));
            emit IParticipantRegistry.ParticipantEnrolled(stranger, roles[i], _KEY, "Party");
            vm.prank(steward);
            participants.enroll(stranger, roles[i], _KEY, "Party");
            participants.requireActive(stranger, roles[i]);
            _assert(participants.isActive(stranger, roles[i]), "active");
        }
    }

    function testOnlyAStewardEnrolsSuspendsAndReinstates() public {
        bytes memory refusal = _unauthorized(aggregator, Roles.STEWARD);
        vm.expectRevert(refusal);
        vm.prank(aggregator);
        participants.enroll(stranger, Roles.HOSPITAL, _KEY, "Party");
        vm.expectRevert(refusal);
        vm.prank(aggregator);
        participants.suspend(researcher, "spite");
        vm.expectRevert(refusal);
        vm.prank(aggregator);
        participants.reinstate(researcher);
    }

    function testAnUnknownRoleIsRefused() public {
        bytes32 role = keccak256("JANITOR");
        _expectEnrolmentRefused(
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistryUnknownRole.selector,
                role
            ),
            stranger,
            role,
            _KEY,
            "Party"
        );
    }

    function testTheZeroAddressIsRefused() public {
        _expectEnrolmentRefused(
            _unknownParty(address(0), Roles.HOSPITAL),
            address(0),
            Roles.HOSPITAL,
            _KEY,
            "Party"
        );
    }

    function testAZeroKeyIsRefused() public {
        _expectEnrolmentRefused(
            _invalidKey(bytes32(0)),
            stranger,
            Roles.HOSPITAL,
            bytes32(0),
            "Party"
        );
    }

    function testAFurtherRoleCannotReplaceTheKey() public {
        _expectEnrolmentRefused(
            _invalidKey(_KEY),
            aggregator,
            Roles.WITNESS,
            _KEY,
            "Party"
        );
        _enroll(aggregator, Roles.WITNESS);
        _assert(participants.isActive(aggregator, Roles.WITNESS), "second role");
    }

    function testANameHas1To64Bytes(uint256 length) public {
        length = _bound(length, 0, 100);
        string memory name = _text(length);
        bytes memory refusal = abi.encodeWithSelector(
            IParticipantRegistry.ParticipantRegistryInvalidName.selector,
            name
        );
        if (length == 0 || length > 64) vm.expectRevert(refusal);
        vm.prank(steward);
        participants.enroll(stranger, Roles.AUDITOR, _KEY, name);
    }

    function testNamesOf0And65BytesAreRefusedAndOf64Taken() public {
        testANameHas1To64Bytes(0);
        testANameHas1To64Bytes(65);
        testANameHas1To64Bytes(64);
    }

    function testASecondEnrolmentInARoleIsRefused() public {
        _expectEnrolmentRefused(
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistryAlreadyEnrolled.selector,
                aggregator,
                Roles.AGGREGATOR
            ),
            aggregator,
            Roles.AGGREGATOR,
            _keyOf(aggregator),
            "Party"
        );
    }

    function testGrantRoleCannotBypassEnrolment() public {
        vm.expectRevert(_unknownParty(stranger, bytes32(0)));
        vm.prank(steward);
        _accessControl().grantRole(Roles.HOSPITAL, stranger);

        vm.prank(steward);
        _accessControl().grantRole(Roles.HOSPITAL, aggregator);
        _assert(participants.isActive(aggregator, Roles.HOSPITAL), "has a key on file");
    }

    function testNobodyGrantsUnknownRoles() public {
        vm.expectRevert(_unauthorized(steward, bytes32(0)));
        vm.prank(steward);
        _accessControl().grantRole(keccak256("JANITOR"), aggregator);
    }

    function testAPartyReplacesItsKey() public {
        vm.expectEmit(true, false, false, true, address(participants));
        emit IParticipantRegistry.EncryptionKeyChanged(aggregator, _KEY);
        vm.prank(aggregator);
        participants.setEncryptionKey(_KEY);
        (bytes32 key, , ) = participants.participantOf(aggregator);
        _assert(key == _KEY, "new key on file");
    }

    function testAStrangerASuspendedPartyAndAZeroKeyReplaceNothing() public {
        vm.expectRevert(_unknownParty(stranger, bytes32(0)));
        vm.prank(stranger);
        participants.setEncryptionKey(_KEY);

        vm.expectRevert(_invalidKey(bytes32(0)));
        vm.prank(aggregator);
        participants.setEncryptionKey(bytes32(0));

        _suspend(aggregator);
        vm.expectRevert(_suspendedParty(aggregator));
        vm.prank(aggregator);
        participants.setEncryptionKey(_KEY);
    }

    function testASuspendedPartyHoldsNoRoleUntilReinstated() public {
        vm.expectEmit(true, false, false, true, address(participants));
        emit IParticipantRegistry.ParticipantSuspended(aggregator, "lost key");
        _suspend(aggregator);
        _assert(!participants.isActive(aggregator, Roles.AGGREGATOR), "not active");
        vm.expectRevert(_suspendedParty(aggregator));
        participants.requireActive(aggregator, Roles.AGGREGATOR);

        vm.expectEmit(true, false, false, true, address(participants));
        emit IParticipantRegistry.ParticipantReinstated(aggregator);
        vm.prank(steward);
        participants.reinstate(aggregator);
        participants.requireActive(aggregator, Roles.AGGREGATOR);
    }

    function testSuspendingTwiceOrAStrangerAndReinstatingTheActiveAreRefused() public {
        _suspend(aggregator);
        vm.expectRevert(_suspendedParty(aggregator));
        vm.prank(steward);
        participants.suspend(aggregator, "again");

        vm.expectRevert(_unknownParty(stranger, bytes32(0)));
        vm.prank(steward);
        participants.suspend(stranger, "who");

        vm.expectRevert(
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistryNotSuspended.selector,
                researcher
            )
        );
        vm.prank(steward);
        participants.reinstate(researcher);
    }

    function testWithoutTheRoleAPartyIsNotActive() public {
        vm.expectRevert(_unknownParty(aggregator, Roles.HOSPITAL));
        participants.requireActive(aggregator, Roles.HOSPITAL);
        _assert(!participants.isActive(aggregator, Roles.HOSPITAL), "not a hospital");
    }

    function testTheLastActiveStewardStays() public {
        bytes memory refusal = abi.encodeWithSelector(
            IParticipantRegistry.ParticipantRegistryLastSteward.selector,
            steward
        );
        vm.expectRevert(refusal);
        vm.prank(steward);
        participants.suspend(steward, "holiday");
        vm.expectRevert(refusal);
        vm.prank(steward);
        _accessControl().revokeRole(Roles.STEWARD, steward);
        vm.expectRevert(refusal);
        vm.prank(steward);
        _accessControl().renounceRole(Roles.STEWARD, steward);
    }

    function testASuspendedStewardMayNotActNorCountAsActive() public {
        _enroll(stranger, Roles.STEWARD);
        _suspend(stranger);
        vm.expectRevert(_suspendedParty(stranger));
        vm.prank(stranger);
        participants.enroll(vm.addr(9), Roles.HOSPITAL, _KEY, "Party");
        vm.expectRevert(_suspendedParty(stranger));
        vm.prank(stranger);
        _accessControl().grantRole(Roles.WITNESS, aggregator);
        testTheLastActiveStewardStays();

        vm.prank(steward);
        participants.reinstate(stranger);
        vm.prank(steward);
        _accessControl().renounceRole(Roles.STEWARD, steward);
        _assert(participants.isActive(stranger, Roles.STEWARD), "the other stays");
    }

    function testRevokingASuspendedStewardKeepsTheCount() public {
        _enroll(stranger, Roles.STEWARD);
        _suspend(stranger);
        vm.prank(steward);
        _accessControl().revokeRole(Roles.STEWARD, stranger);
        testTheLastActiveStewardStays();
    }

    function testMakingASuspendedPartyAStewardKeepsTheCount() public {
        _suspend(aggregator);
        _enroll(aggregator, Roles.STEWARD);
        testTheLastActiveStewardStays();
    }

    function testRevokingARoleEndsIt() public {
        vm.prank(steward);
        _accessControl().revokeRole(Roles.AGGREGATOR, aggregator);
        _assert(!participants.isActive(aggregator, Roles.AGGREGATOR), "revoked");
    }

    function testWhateverIsDoneSomeStewardIsActive(uint8[24] memory steps) public {
        address[3] memory crew = [steward, aggregator, researcher];
        for (uint256 i = 0; i < steps.length; ++i) {
            _step(steps[i] / 9, crew[steps[i] % 3], crew[(steps[i] / 3) % 3]);
            uint256 active = 0;
            for (uint256 j = 0; j < crew.length; ++j)
                if (participants.isActive(crew[j], Roles.STEWARD)) ++active;
            _assert(active > 0, "an active steward is left");
        }
    }

    function _step(uint256 kind, address actor, address subject) private {
        bytes[5] memory calls = [
            abi.encodeCall(IAccessControl.grantRole, (Roles.STEWARD, subject)),
            abi.encodeCall(IAccessControl.revokeRole, (Roles.STEWARD, subject)),
            abi.encodeCall(IParticipantRegistry.suspend, (subject, "")),
            abi.encodeCall(IParticipantRegistry.reinstate, (subject)),
            abi.encodeCall(IAccessControl.renounceRole, (Roles.STEWARD, subject))
        ];
        vm.prank(actor);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, ) = address(participants).call(calls[kind % 5]);
        done; // A refusal is as good as a change: only what remains counts.
    }

    function _expectEnrolmentRefused(
        bytes memory refusal,
        address account,
        bytes32 role,
        bytes32 key,
        string memory name
    ) private {
        vm.expectRevert(refusal);
        vm.prank(steward);
        participants.enroll(account, role, key, name);
    }

    function _accessControl() private view returns (IAccessControl) {
        return IAccessControl(address(participants));
    }

    function _unauthorized(address account, bytes32 role) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector,
                account,
                role
            );
    }

    function _invalidKey(bytes32 key) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistryInvalidKey.selector,
                key
            );
    }
}
