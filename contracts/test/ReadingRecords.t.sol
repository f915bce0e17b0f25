// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReadings} from "../interfaces/IReadings.sol";
import {ReadingFederation} from "./ReadingFederation.sol";
import {Roles} from "../Roles.sol";

contract ReadingRecordsTest is ReadingFederation {
    function testAHospitalReadsItsOwnImage() public {
        IReadings.Reading memory reading = _reading(3);
        bytes32 id = _readingId(owner, reading);
        _expectRecorded(id, reading, owner);
        _assert(_record(owner, reading, 3) == id, "the identifier");
        IReadings.Standing memory found = readings.readingOf(id);
        _assert(found.image == images[3] && found.hospital == owner, "of the image");
        _assert(found.author == owner, "by the hospital");
        _assert(found.opinionOn == 0 && found.corrects == 0 && found.correctedBy == 0, "alone");
    }

    function testAClinicianReadsInAHospitalsNameUntilTheTimeIsOver() public {
        uint64 until = uint64(NOW) + 1 days;
        vm.expectEmit(true, true, false, true, address(readings));
        emit IReadings.ClinicianAppointed(owner, clinician, until);
        _appoint(owner, clinician, until);
        _assert(readings.appointedUntil(owner, clinician) == until, "until");
        vm.warp(until);
        bytes32 id = _record(clinician, _reading(0), 0);
        _assert(readings.readingOf(id).author == clinician, "the author");
        _assert(readings.readingOf(id).hospital == owner, "in the hospital's name");
        vm.warp(until + 1);
        vm.expectRevert(_notAppointed(owner, clinician));
        _record(clinician, _reading(1), 1);
    }

    function testAnAppointmentIsOfOneHospitalAndCanBeTakenBack() public {
        _appoint(reader, clinician, FULFIL_BY);
        vm.expectRevert(_notAppointed(owner, clinician));
        _record(clinician, _reading(0), 0);
        _appoint(owner, clinician, FULFIL_BY);
        _appoint(owner, clinician, 0);
        vm.expectRevert(_notAppointed(owner, clinician));
        _record(clinician, _reading(0), 0);
    }

    function testOnlyAnActiveHospitalAppointsAndIsReadFor() public {
        vm.expectRevert(_unknownParty(stranger, Roles.HOSPITAL));
        _appoint(stranger, clinician, FULFIL_BY);
        IReadings.Reading memory reading = _reading(0);
        reading.hospital = stranger;
        vm.expectRevert(_unknownParty(stranger, Roles.HOSPITAL));
        _record(stranger, reading, 0);
        _appoint(owner, clinician, FULFIL_BY);
        _suspend(owner);
        vm.expectRevert(_suspendedParty(owner));
        _appoint(owner, clinician, FULFIL_BY);
        vm.expectRevert(_suspendedParty(owner));
        _record(clinician, _reading(0), 0);
    }

    function testASuspendedHospitalEndsAnAppointmentAndLengthensNone() public {
        _appoint(owner, clinician, FULFIL_BY);
        _suspend(owner);
        vm.expectRevert(_suspendedParty(owner));
        _appoint(owner, clinician, FULFIL_BY + 1);
        _appoint(owner, clinician, FULFIL_BY - 1);
        _assert(readings.appointedUntil(owner, clinician) == FULFIL_BY - 1, "earlier");
        _appoint(owner, clinician, 0);
        _assert(readings.appointedUntil(owner, clinician) == 0, "ended");
        vm.expectRevert(_suspendedParty(owner));
        _appoint(owner, clinician, 0);
    }

    function testAHospitalReadsNothingOfAnothersWithoutARequest() public {
        vm.expectRevert(_notOwner(scans, owner, reader));
        _record(reader, _answer(), 0);
        IReadings.Reading memory reading = _reading(0);
        reading.version = "none";
        vm.expectRevert(_notOwner("none", address(0), owner));
        _record(owner, reading, 0);
    }

    function testAnImageOutsideTheVersionIsNotRead(bytes32 image) public {
        IReadings.Reading memory reading = _reading(0);
        if (image == reading.image) image = images[1];
        reading.image = image;
        vm.expectRevert(_refusal("NotInVersion", scans, image));
        _record(owner, reading, 0);
    }

    function testASupersededVersionIsReadAndAWithdrawnOneIsNot() public {
        _register(owner, _scanTerms("scans", scans));
        _recordFirst();
        vm.prank(owner);
        datasets.withdraw(scans, "consent");
        vm.expectRevert(_refusal("Withdrawn", scans));
        _record(owner, _reading(1), 1);
    }

    function testAnErasedImageIsNotReadInAnyVersion() public {
        bytes32 older = scans;
        scans = _register(owner, _scanTerms("scans", older));
        _erase(owner, older, 0);
        vm.expectRevert(_refusal("Erased", images[0]));
        _recordFirst();
        _record(owner, _reading(1), 1);
    }

    function testAReadingWithoutDocumentOrBlobIsRefused() public {
        IReadings.Reading memory reading = _reading(0);
        reading.document = 0;
        vm.expectRevert(_empty("document"));
        _record(owner, reading, 0);
        reading = _reading(0);
        reading.blob = 0;
        vm.expectRevert(_empty("blob"));
        _record(owner, reading, 0);
    }

    function testAReadingIsRecordedOnce() public {
        bytes32 id = _recordFirst();
        vm.expectRevert(_refusal("AlreadyRecorded", id));
        _recordFirst();
        _correct(owner, id);
        vm.expectRevert(_refusal("AlreadyRecorded", id));
        _recordFirst();
    }

    function testASecondOpinionIsAnotherAuthors() public {
        bytes32 first = _recordFirst();
        IReadings.Reading memory opinion = _reading(0);
        opinion.opinionOn = first;
        vm.expectRevert(_sameAuthor(first, owner));
        _record(owner, opinion, 0);
        _appoint(owner, clinician, FULFIL_BY);
        bytes32 id = _readingId(clinician, opinion);
        _expectRecorded(id, opinion, clinician);
        _assert(_record(clinician, opinion, 0) == id, "the identifier");
        _assert(readings.readingOf(id).opinionOn == first, "on the first");
    }

    function testAnOpinionIsOnARecordedReadingOfTheSameImage() public {
        bytes32 first = _recordFirst();
        _appoint(owner, clinician, FULFIL_BY);
        IReadings.Reading memory opinion = _reading(1);
        opinion.opinionOn = "none";
        vm.expectRevert(_refusal("UnknownReading", "none"));
        _record(clinician, opinion, 1);
        opinion.opinionOn = first;
        vm.expectRevert(_refusal("OtherImage", images[1], images[0]));
        _record(clinician, opinion, 1);
    }

    function testACorrectionFollowsTheNewestOfItsLineAndNothingIsErased() public {
        bytes32 first = _recordFirst();
        bytes32 second = _correctionId(owner, first);
        vm.expectEmit(true, true, true, true, address(readings));
        emit IReadings.ReadingCorrected(
            first,
            second,
            images[0],
            owner,
            owner,
            "new document",
            "new blob",
            "wrong side"
        );
        _assert(_correct(owner, first) == second, "the identifier");
        vm.expectRevert(_refusal("AlreadyCorrected", first, second));
        _correct(owner, first);
        bytes32 third = _correct(owner, second);
        IReadings.Standing memory found = readings.readingOf(first);
        _assert(found.author == owner && found.image == images[0], "the first stays");
        _assert(found.correctedBy == second, "and names the second");
        found = readings.readingOf(second);
        _assert(found.corrects == first && found.correctedBy == third, "the second is between");
        found = readings.readingOf(third);
        _assert(found.corrects == second && found.correctedBy == 0, "the third is the newest");
        _assert(found.image == images[0] && found.hospital == owner, "image and hospital");
    }

    function testOnlyItsHospitalCorrectsAReading() public {
        bytes32 first = _recordFirst();
        vm.expectRevert(_notAppointed(owner, reader));
        _correct(reader, first);
        vm.expectRevert(_refusal("UnknownReading", "none"));
        _correct(owner, "none");
        _appoint(owner, clinician, FULFIL_BY);
        bytes32 second = _correct(clinician, first);
        _assert(readings.readingOf(second).author == clinician, "by another of its clinicians");
        _suspend(owner);
        vm.expectRevert(_suspendedParty(owner));
        _correct(clinician, second);
    }

    function testACorrectionHasDocumentAndBlob() public {
        bytes32 first = _recordFirst();
        vm.expectRevert(_empty("document"));
        vm.prank(owner);
        readings.correct(first, bytes32(0), "blob", "");
        vm.expectRevert(_empty("blob"));
        vm.prank(owner);
        readings.correct(first, "document", bytes32(0), "");
    }

    function testACorrectedOpinionStaysAnotherAuthors() public {
        bytes32 first = _recordFirst();
        _appoint(owner, clinician, FULFIL_BY);
        IReadings.Reading memory opinion = _reading(0);
        opinion.opinionOn = first;
        bytes32 second = _record(clinician, opinion, 0);
        vm.expectRevert(_sameAuthor(first, owner));
        _correct(owner, second);
        bytes32 third = _correct(clinician, second);
        _assert(readings.readingOf(third).opinionOn == first, "still on the first");
    }

    function testAWrongReadingIsCorrectedAfterWithdrawalAndErasure() public {
        bytes32 first = _recordFirst();
        _erase(owner, scans, 0);
        bytes32 second = _correct(owner, first);
        _assert(readings.readingOf(second).corrects == first, "corrected");
    }

    function testAnAuthorSaysHowFarTwoReadingsAgreeAndSaysSoAgain() public {
        (bytes32 own, bytes32 other) = _twoReadings();
        for (uint8 i = 3; i > 0; --i) {
            vm.expectEmit(true, true, true, true, address(readings));
            emit IReadings.ReadingsCompared(
                own,
                other,
                images[0],
                clinician,
                IReadings.Agreement(i)
            );
            _compare(clinician, own, other, IReadings.Agreement(i));
        }
        _compare(owner, other, own, IReadings.Agreement.Agrees);
    }

    function testOnlyTheAuthorComparesAndNotWithAReadingOfItsOwn() public {
        (bytes32 own, bytes32 other) = _twoReadings();
        vm.expectRevert(
            abi.encodeWithSelector(
                IReadings.ReadingsNotAuthor.selector,
                own,
                clinician,
                owner
            )
        );
        _compare(owner, own, other, IReadings.Agreement.Agrees);
        vm.expectRevert(_sameAuthor(own, clinician));
        _compare(clinician, own, own, IReadings.Agreement.Agrees);
        vm.expectRevert(abi.encodeWithSelector(IReadings.ReadingsNoAgreement.selector));
        _compare(clinician, own, other, IReadings.Agreement.Unknown);
        _appoint(owner, clinician, 0);
        vm.expectRevert(_notAppointed(owner, clinician));
        _compare(clinician, own, other, IReadings.Agreement.Agrees);
    }

    function testOnlyNewestReadingsOfOneImageAreCompared() public {
        (bytes32 own, bytes32 other) = _twoReadings();
        bytes32 elsewhere = _record(owner, _reading(1), 1);
        vm.expectRevert(_refusal("OtherImage", images[0], images[1]));
        _compare(clinician, own, elsewhere, IReadings.Agreement.Agrees);
        vm.expectRevert(_refusal("UnknownReading", "none"));
        _compare(clinician, own, "none", IReadings.Agreement.Agrees);
        vm.expectRevert(_refusal("UnknownReading", "none"));
        _compare(clinician, "none", other, IReadings.Agreement.Agrees);
        bytes32 newer = _correct(owner, other);
        vm.expectRevert(_refusal("AlreadyCorrected", other, newer));
        _compare(clinician, own, other, IReadings.Agreement.Agrees);
        _compare(clinician, own, newer, IReadings.Agreement.Agrees);
        newer = _correct(clinician, own);
        vm.expectRevert(_refusal("AlreadyCorrected", own, newer));
        _compare(clinician, own, other, IReadings.Agreement.Agrees);
    }

    function testTheRegistriesAndTheBlockOfDeploymentAreKept() public {
        vm.roll(77);
        IReadings other = IReadings(_deploy("Readings", abi.encode(participants, datasets)));
        _assert(address(other.participants()) == address(participants), "participants");
        _assert(address(other.datasets()) == address(datasets), "datasets");
        _assert(other.deployedAt() == 77, "deployed at block 77");
    }

    /// @dev The clinician's and the hospital's of the first image.
    function _twoReadings() private returns (bytes32 own, bytes32 other) {
        _appoint(owner, clinician, FULFIL_BY);
        other = _recordFirst();
        own = _record(clinician, _reading(0), 0);
    }

    function _expectRecorded(
        bytes32 id,
        IReadings.Reading memory reading,
        address author
    ) private {
        vm.expectEmit(true, true, true, true, address(readings));
        emit IReadings.ReadingRecorded(
            id,
            reading.image,
            reading.hospital,
            author,
            reading.version,
            reading.opinionOn,
            bytes32(0),
            reading.document,
            reading.blob
        );
    }

    function _notOwner(
        bytes32 version,
        address hospital,
        address account
    ) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReadings.ReadingsNotOwner.selector,
                version,
                hospital,
                account
            );
    }

    function _sameAuthor(bytes32 reading, address author) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(IReadings.ReadingsSameAuthor.selector, reading, author);
    }

    function _empty(string memory field) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IReadings.ReadingsEmptyDigest.selector, field);
    }
}
