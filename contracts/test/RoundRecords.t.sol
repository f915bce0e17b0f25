// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "./Federation.sol";
import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {Roles} from "../Roles.sol";

contract RoundRecordsTest is Federation {
    uint256 private _round;

    function setUp() public override {
        super.setUp();
        _round = _open();
    }

    function testARelayedRecordIsTaken() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        bytes memory signature = _sign(hospitalKeys[0], _hashOf(record));
        _expectRecorded(record);
        vm.prank(stranger);
        ledger.relayUpdate(record, signature);
        _assertRecorded(record, 1);
    }

    function testAHospitalSendsItsOwnRecord() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        _expectRecorded(record);
        vm.prank(hospitals[0]);
        ledger.recordUpdate(record);
        _assertRecorded(record, 1);
    }

    function testABatchIsTaken() public {
        (
            IRoundLedger.UpdateRecord[] memory records,
            bytes[] memory signatures
        ) = _batch(4);
        for (uint256 i = 0; i < records.length; ++i) _expectRecorded(records[i]);
        ledger.relayUpdates(records, signatures);
        for (uint256 i = 0; i < records.length; ++i) _assertRecorded(records[i], 4);
    }

    function testABatchIsTakenWholeOrNotAtAll() public {
        (
            IRoundLedger.UpdateRecord[] memory records,
            bytes[] memory signatures
        ) = _batch(3);
        records[2].examples = 0;
        signatures[2] = _sign(hospitalKeys[2], _hashOf(records[2]));
        vm.expectRevert(_examplesOutOfRange(0));
        ledger.relayUpdates(records, signatures);
        _assert(ledger.roundOf(_round).updates == 0, "nothing taken");
        _assert(ledger.recordDigestOf(_round, hospitals[0]) == 0, "no record");
    }

    function testABatchNeedsASignatureForEachRecord() public {
        (IRoundLedger.UpdateRecord[] memory records, ) = _batch(3);
        vm.expectRevert(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerLengthMismatch.selector, 3, 2)
        );
        ledger.relayUpdates(records, new bytes[](2));
    }

    function testAnUnknownRoundIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(9, 0);
        _expectRefused(_unknownRound(9), record);
    }

    function testAnotherChainOrLedgerIsRefused(uint64 chainId, address other) public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.chainId = chainId;
        if (chainId != block.chainid)
            _expectRefused(
                abi.encodeWithSelector(
                    IRoundLedger.RoundLedgerWrongChain.selector,
                    block.chainid,
                    chainId
                ),
                record
            );
        record.chainId = uint64(block.chainid);
        record.ledger = other;
        if (other != address(ledger))
            _expectRefused(
                abi.encodeWithSelector(
                    IRoundLedger.RoundLedgerWrongLedger.selector,
                    address(ledger),
                    other
                ),
                record
            );
    }

    function testAClosedRoundIsRefused() public {
        _relay(_record(_round, 0), hospitalKeys[0]);
        _relay(_record(_round, 1), hospitalKeys[1]);
        _propose(_round, 2);
        _expectRefused(_unexpected(_round, IRoundLedger.Phase.Proposed), _record(_round, 2));
        vm.prank(steward);
        ledger.abort(_round, "over");
        _expectRefused(_unexpected(_round, IRoundLedger.Phase.Aborted), _record(_round, 2));
    }

    function testALateRecordIsRefused() public {
        vm.warp(DEADLINE);
        _relay(_record(_round, 0), hospitalKeys[0]);
        vm.warp(DEADLINE + 1);
        _expectRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerLateRecord.selector,
                _round,
                DEADLINE,
                DEADLINE + 1
            ),
            _record(_round, 1)
        );
    }

    function testAFullRoundIsRefused() public {
        vm.prank(steward);
        ledger.abort(_round, "smaller");
        IRoundLedger.Terms memory terms = _terms();
        terms.maxUpdates = 2;
        _round = _open(terms);
        _relay(_record(_round, 0), hospitalKeys[0]);
        _relay(_record(_round, 1), hospitalKeys[1]);
        _expectRefused(
            abi.encodeWithSelector(IRoundLedger.RoundLedgerRoundFull.selector, _round, 2),
            _record(_round, 2)
        );
    }

    function testAnUnknownOrSuspendedHospitalIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.hospital = stranger;
        _expectRefused(_unknownParty(stranger, Roles.HOSPITAL), record);
        _suspend(hospitals[0]);
        _expectRefused(_suspendedParty(hospitals[0]), _record(_round, 0));
    }

    function testASecondRecordIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        _relay(record, hospitalKeys[0]);
        bytes memory refusal = abi.encodeWithSelector(
            IRoundLedger.RoundLedgerDuplicateRecord.selector,
            _round,
            hospitals[0]
        );
        _expectRefused(refusal, record);
        record.update = keccak256("better update");
        _expectRefused(refusal, record);
        vm.expectRevert(refusal);
        vm.prank(hospitals[0]);
        ledger.recordUpdate(record);
    }

    function testASignatureOfAnotherKeyIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        bytes memory signature = _sign(hospitalKeys[1], _hashOf(record));
        vm.expectRevert(_badSignature(hospitals[1]));
        ledger.relayUpdate(record, signature);
        vm.expectRevert(_badSignature(hospitals[1]));
        vm.prank(hospitals[1]);
        ledger.recordUpdate(record);
    }

    function testAMalformedSignatureIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        vm.expectRevert(_badSignature(address(0)));
        ledger.relayUpdate(record, "");
        bytes memory signature = _sign(hospitalKeys[0], _hashOf(record));
        signature[64] = 0x00;
        vm.expectRevert(_badSignature(address(0)));
        ledger.relayUpdate(record, signature);
    }

    function testTheOtherFormOfASignatureIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        bytes memory signature = _flip(_sign(hospitalKeys[0], _hashOf(record)));
        vm.expectRevert(_badSignature(address(0)));
        ledger.relayUpdate(record, signature);
    }

    /// @dev The refusal names a random address, so what counts is that nothing is recorded.
    function testASignatureBindsEveryField(uint8 field) public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        bytes memory signature = _sign(hospitalKeys[0], _hashOf(record));
        _change(record, field % 9);
        try ledger.relayUpdate(record, signature) {
            _assert(false, "taken with a changed field");
        } catch (bytes memory refusal) {
            _assert(
                bytes4(refusal) == IRoundLedger.RoundLedgerBadSignature.selector,
                "bad signature"
            );
        }
    }

    function testAnotherPurposeIsRefused(uint8 purpose) public {
        if (purpose == PURPOSE) ++purpose;
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.purpose = purpose;
        _expectRefused(
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerPurposeMismatch.selector,
                PURPOSE,
                purpose
            ),
            record
        );
    }

    function testAnotherBaseModelIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.baseModel = MODEL;
        _expectRefused(_mismatch(BASE_MODEL, MODEL), record);
    }

    function testDataThatMayNotBeUsedIsRefused() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.datasets = new bytes32[](0);
        _expectRefused(
            abi.encodeWithSelector(IDatasetRegistry.DatasetRegistryNoVersions.selector),
            record
        );
        record.datasets = _list(versions[1]);
        _expectRefused(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryNotOwner.selector,
                versions[1],
                hospitals[1],
                hospitals[0]
            ),
            record
        );
        _withdraw(0);
        _expectRefused(
            abi.encodeWithSelector(
                IDatasetRegistry.DatasetRegistryWithdrawn.selector,
                versions[0]
            ),
            _record(_round, 0)
        );
    }

    function testExamplesLieBetween1AndTheImages(uint32 examples) public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.examples = examples;
        if (examples == 0 || examples > IMAGES)
            _expectRefused(_examplesOutOfRange(examples), record);
        else _relay(record, hospitalKeys[0]);
    }

    function testOneExampleMoreThanImagesIsRefused() public {
        testExamplesLieBetween1AndTheImages(IMAGES + 1);
        testExamplesLieBetween1AndTheImages(0);
        testExamplesLieBetween1AndTheImages(1);
    }

    function testEmptyDigestsAreRefusedByName() public {
        IRoundLedger.UpdateRecord memory record = _record(_round, 0);
        record.update = 0;
        _expectRefused(_emptyDigest("update"), record);
        record = _record(_round, 0);
        record.blob = 0;
        _expectRefused(_emptyDigest("blob"), record);
        record = _record(_round, 0);
        record.code = 0;
        _expectRefused(_emptyDigest("code"), record);
    }

    function _expectRefused(
        bytes memory refusal,
        IRoundLedger.UpdateRecord memory record
    ) private {
        vm.expectRevert(refusal);
        _relay(record, hospitalKeys[_indexOf(record.hospital)]);
    }

    function _expectRecorded(IRoundLedger.UpdateRecord memory record) private {
        vm.expectEmit(true, true, false, true, address(ledger));
        emit IRoundLedger.UpdateRecorded(
            record.round,
            record.hospital,
            _hashOf(record),
            record.datasets,
            record.examples,
            record.update,
            record.blob,
            record.code,
            record.epsilon,
            record.delta
        );
    }

    function _assertRecorded(
        IRoundLedger.UpdateRecord memory record,
        uint32 updates
    ) private view {
        IRoundLedger.Round memory state = ledger.roundOf(record.round);
        _assert(state.phase == IRoundLedger.Phase.Collecting, "collecting");
        _assert(state.updates == updates, "count of updates");
        bytes32 digest = ledger.recordDigestOf(record.round, record.hospital);
        _assert(digest == _hashOf(record), "record on file");
    }

    function _batch(
        uint256 count
    )
        private
        view
        returns (IRoundLedger.UpdateRecord[] memory records, bytes[] memory signatures)
    {
        records = new IRoundLedger.UpdateRecord[](count);
        signatures = new bytes[](count);
        for (uint256 i = 0; i < count; ++i) {
            records[i] = _record(_round, i);
            signatures[i] = _sign(hospitalKeys[i], _hashOf(records[i]));
        }
    }

    function _indexOf(address hospital) private view returns (uint256 index) {
        for (index = hospitals.length - 1; index > 0; --index)
            if (hospitals[index] == hospital) return index;
    }

    function _badSignature(address recovered) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBadSignature.selector,
                hospitals[0],
                recovered
            );
    }

    function _change(IRoundLedger.UpdateRecord memory record, uint8 field) private view {
        if (field == 0) record.hospital = hospitals[1];
        else if (field == 1) record.datasets[0] = versions[1];
        else if (field == 2) ++record.purpose;
        else if (field == 3) --record.examples;
        else if (field == 4) record.baseModel = MODEL;
        else if (field == 5) record.update = MODEL;
        else if (field == 6) record.blob = MODEL;
        else if (field == 7) ++record.epsilon;
        else ++record.delta;
    }

    function _examplesOutOfRange(uint32 examples) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerExamplesOutOfRange.selector,
                examples,
                uint256(IMAGES)
            );
    }

    /// @dev The second signature that the curve gives for the same key and digest.
    function _flip(bytes memory signature) private pure returns (bytes memory) {
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        (bytes32 r, uint256 s) = abi.decode(signature, (bytes32, uint256));
        uint8 v = uint8(signature[64]) == 27 ? 28 : 27;
        return abi.encodePacked(r, order - s, v);
    }
}
