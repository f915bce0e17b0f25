// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReadings} from "../interfaces/IReadings.sol";
import {ReadingFederation} from "./ReadingFederation.sol";
import {Roles} from "../Roles.sol";

contract ReadingRequestsTest is ReadingFederation {
    bytes32 private _id;

    function setUp() public override {
        super.setUp();
        _id = _requestId(_request(0));
    }

    function testAHospitalAsksForAReading() public {
        IReadings.Request memory request = _request(0);
        request.opinionOn = _recordFirst();
        request.reader = reader;
        bytes32 id = _requestId(request);
        vm.expectEmit(true, true, true, true, address(readings));
        emit IReadings.ReadingRequested(
            id,
            request.image,
            request.hospital,
            request.version,
            request.reader,
            request.opinionOn,
            request.takeBy,
            request.fulfilBy,
            request.question
        );
        _assert(_ask(owner, request, 0) == id, "the identifier");
        _assertState(id, IReadings.RequestState.Open, address(0));
    }

    function testOnlyTheVersionsHospitalAndItsCliniciansAsk() public {
        vm.expectRevert(_notAppointed(owner, reader));
        _ask(reader, _request(0), 0);
        IReadings.Request memory request = _request(0);
        request.hospital = reader;
        vm.expectRevert(
            abi.encodeWithSelector(IReadings.ReadingsNotOwner.selector, scans, owner, reader)
        );
        _ask(reader, request, 0);
        _appoint(owner, clinician, FULFIL_BY);
        _ask(clinician, _request(0), 0);
        _suspend(owner);
        vm.expectRevert(_suspendedParty(owner));
        _ask(owner, _request(1), 1);
    }

    function testNobodyAsksItself() public {
        IReadings.Request memory request = _request(0);
        request.reader = owner;
        vm.expectRevert(_ownRequest());
        _ask(owner, request, 0);
    }

    function testTimesLieAheadAndInOrder(uint64 takeBy, uint64 fulfilBy) public {
        IReadings.Request memory request = _request(0);
        request.takeBy = takeBy;
        request.fulfilBy = fulfilBy;
        if (takeBy <= NOW || fulfilBy < takeBy) vm.expectRevert(_invalidTimes(request));
        _ask(owner, request, 0);
    }

    function testATimeThatIsOverOrAfterTheOtherIsRefused() public {
        IReadings.Request memory request = _request(0);
        request.takeBy = uint64(NOW);
        vm.expectRevert(_invalidTimes(request));
        _ask(owner, request, 0);
        request.takeBy = request.fulfilBy + 1;
        vm.expectRevert(_invalidTimes(request));
        _ask(owner, request, 0);
        request.takeBy = request.fulfilBy;
        _ask(owner, request, 0);
    }

    function testNothingIsAskedAboutWhatMayNotBeRead() public {
        IReadings.Request memory request = _request(0);
        request.image = images[1];
        vm.expectRevert(_refusal("NotInVersion", scans, images[1]));
        _ask(owner, request, 0);
        _register(owner, _scanTerms("scans", scans));
        _erase(owner, scans, 0);
        vm.expectRevert(_refusal("Erased", images[0]));
        _askFirst();
        vm.prank(owner);
        datasets.withdraw(scans, "consent");
        vm.expectRevert(_refusal("Withdrawn", scans));
        _ask(owner, _request(1), 1);
    }

    function testAnOpinionIsAskedOnARecordedReadingOfTheSameImage() public {
        IReadings.Request memory request = _request(1);
        request.opinionOn = _recordFirst();
        vm.expectRevert(_refusal("OtherImage", images[1], images[0]));
        _ask(owner, request, 1);
        request.opinionOn = "none";
        vm.expectRevert(_refusal("UnknownReading", "none"));
        _ask(owner, request, 1);
    }

    function testTheSameIsAskedOnce() public {
        _askFirst();
        vm.expectRevert(_refusal("AlreadyAsked", _id));
        _askFirst();
        _cancel(owner);
        vm.expectRevert(_refusal("AlreadyAsked", _id));
        _askFirst();
    }

    function testAnotherHospitalTakesARequestUntilTheTimeIsOver() public {
        _askFirst();
        vm.warp(TAKE_BY);
        vm.expectEmit(true, true, false, true, address(readings));
        emit IReadings.RequestTaken(_id, reader, reader);
        _take(reader, reader);
        _assertState(_id, IReadings.RequestState.Taken, reader);
        vm.expectRevert(_unexpected(IReadings.RequestState.Taken));
        _take(hospitals[2], hospitals[2]);
        _release(reader);
        vm.warp(TAKE_BY + 1);
        vm.expectRevert(_tooLate(TAKE_BY));
        _take(reader, reader);
    }

    function testOnlyAnotherActiveHospitalTakesARequest() public {
        vm.expectRevert(_refusal("UnknownRequest", _id));
        _take(reader, reader);
        _askFirst();
        vm.expectRevert(_ownRequest());
        _take(owner, owner);
        vm.expectRevert(_unknownParty(researcher, Roles.HOSPITAL));
        _take(researcher, researcher);
        vm.expectRevert(_notAppointed(reader, clinician));
        _take(clinician, reader);
        _appoint(reader, clinician, FULFIL_BY);
        _take(clinician, reader);
        _assertState(_id, IReadings.RequestState.Taken, reader);
    }

    function testASuspendedHospitalTakesNothing() public {
        _askFirst();
        _suspend(reader);
        vm.expectRevert(_suspendedParty(reader));
        _take(reader, reader);
    }

    function testNobodyTakesWhatASuspendedHospitalAsked() public {
        _askFirst();
        _suspend(owner);
        vm.expectRevert(_suspendedParty(owner));
        _take(reader, reader);
        _assertState(_id, IReadings.RequestState.Open, address(0));
    }

    function testARequestToOneReaderIsTakenByNobodyElse() public {
        IReadings.Request memory request = _request(0);
        request.reader = reader;
        bytes32 id = _ask(owner, request, 0);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReadings.ReadingsNotReader.selector,
                id,
                reader,
                hospitals[2]
            )
        );
        vm.prank(hospitals[2]);
        readings.take(request, hospitals[2]);
        vm.prank(reader);
        readings.take(request, reader);
    }

    function testWhoTookARequestGivesItBack() public {
        _askFirst();
        vm.expectRevert(_unexpected(IReadings.RequestState.Open));
        _release(reader);
        _take(reader, reader);
        vm.expectRevert(_notAppointed(reader, owner));
        _release(owner);
        vm.expectEmit(true, true, false, true, address(readings));
        emit IReadings.RequestReleased(_id, reader, reader);
        _release(reader);
        _assertState(_id, IReadings.RequestState.Open, address(0));
        _take(hospitals[2], hospitals[2]);
        _assertState(_id, IReadings.RequestState.Taken, hospitals[2]);
    }

    function testAnOpenRequestIsCancelledByWhoAsked() public {
        vm.expectRevert(_refusal("UnknownRequest", _id));
        _cancel(owner);
        _askFirst();
        vm.expectRevert(_notAppointed(owner, reader));
        _cancel(reader);
        vm.expectEmit(true, false, false, true, address(readings));
        emit IReadings.RequestCancelled(_id, owner);
        _cancel(owner);
        _assertState(_id, IReadings.RequestState.Cancelled, address(0));
        vm.expectRevert(_unexpected(IReadings.RequestState.Cancelled));
        _cancel(owner);
        vm.expectRevert(_unexpected(IReadings.RequestState.Cancelled));
        _take(reader, reader);
    }

    function testATakenRequestIsCancelledOnlyAfterItsTime() public {
        _askFirst();
        _take(reader, reader);
        vm.warp(FULFIL_BY);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReadings.ReadingsTooEarly.selector,
                _id,
                FULFIL_BY,
                FULFIL_BY
            )
        );
        _cancel(owner);
        vm.warp(FULFIL_BY + 1);
        _cancel(owner);
        _assertState(_id, IReadings.RequestState.Cancelled, address(0));
    }

    function testWhatASuspendedHospitalTookIsCancelledBeforeItsTime() public {
        _askFirst();
        _take(reader, reader);
        _suspend(reader);
        _cancel(owner);
        _assertState(_id, IReadings.RequestState.Cancelled, address(0));
    }

    function testWhoTookARequestFulfilsItInTime() public {
        _askFirst();
        _appoint(reader, clinician, FULFIL_BY);
        _take(reader, reader);
        vm.warp(FULFIL_BY);
        IReadings.Reading memory answer = _answer();
        bytes32 id = _readingId(clinician, answer);
        vm.expectEmit(true, true, true, true, address(readings));
        emit IReadings.ReadingRecorded(
            id,
            answer.image,
            reader,
            clinician,
            scans,
            bytes32(0),
            _id,
            answer.document,
            answer.blob
        );
        vm.expectEmit(true, true, false, true, address(readings));
        emit IReadings.RequestFulfilled(_id, id);
        _assert(_fulfil(clinician, _request(0), answer) == id, "the identifier");
        _assertState(_id, IReadings.RequestState.Fulfilled, reader);
        _assert(readings.readingOf(id).hospital == reader, "in the reader's name");
    }

    function testARequestIsFulfilledOnce() public {
        _askFirst();
        _take(reader, reader);
        _fulfil(reader, _request(0), _answer());
        IReadings.Reading memory another = _answer();
        another.document = "another document";
        vm.expectRevert(_unexpected(IReadings.RequestState.Fulfilled));
        _fulfil(reader, _request(0), another);
        vm.expectRevert(_unexpected(IReadings.RequestState.Fulfilled));
        _release(reader);
        vm.expectRevert(_unexpected(IReadings.RequestState.Fulfilled));
        _cancel(owner);
        vm.expectRevert(_unexpected(IReadings.RequestState.Fulfilled));
        _take(hospitals[2], hospitals[2]);
    }

    function testNobodyFulfilsWhatItDidNotTake() public {
        vm.expectRevert(_refusal("UnknownRequest", _id));
        _fulfil(reader, _request(0), _answer());
        _askFirst();
        vm.expectRevert(_unexpected(IReadings.RequestState.Open));
        _fulfil(reader, _request(0), _answer());
        _take(hospitals[2], hospitals[2]);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReadings.ReadingsNotTaker.selector,
                _id,
                hospitals[2],
                reader
            )
        );
        _fulfil(reader, _request(0), _answer());
        IReadings.Reading memory answer = _answer();
        answer.hospital = hospitals[2];
        vm.expectRevert(_notAppointed(hospitals[2], reader));
        _fulfil(reader, _request(0), answer);
    }

    function testARequestIsNotFulfilledAfterItsTime() public {
        _askFirst();
        _take(reader, reader);
        vm.warp(FULFIL_BY + 1);
        vm.expectRevert(_tooLate(FULFIL_BY));
        _fulfil(reader, _request(0), _answer());
    }

    function testAnAnswerIsAboutWhatWasAsked() public {
        _askFirst();
        _take(reader, reader);
        IReadings.Reading memory answer = _answer();
        answer.version = versions[1];
        vm.expectRevert(_refusal("OtherVersion", scans, versions[1]));
        _fulfil(reader, _request(0), answer);
        answer = _answer();
        answer.image = images[1];
        vm.expectRevert(_refusal("OtherImage", images[0], images[1]));
        _fulfil(reader, _request(0), answer);
        IReadings.Request memory other = _request(0);
        other.question = "another question";
        vm.expectRevert(_refusal("UnknownRequest", _requestId(other)));
        _fulfil(reader, other, _answer());
    }

    function testAnAskedOpinionIsOnTheReadingThatItWasAskedOn() public {
        IReadings.Request memory request = _request(0);
        request.opinionOn = _recordFirst();
        _ask(owner, request, 0);
        vm.prank(reader);
        readings.take(request, reader);
        IReadings.Reading memory answer = _answer();
        vm.expectRevert(_refusal("OtherOpinion", request.opinionOn, bytes32(0)));
        _fulfil(reader, request, answer);
        answer.opinionOn = request.opinionOn;
        _fulfil(reader, request, answer);
    }

    function testNothingIsReadAnyMoreOnceTheVersionIsWithdrawn() public {
        _askFirst();
        _take(reader, reader);
        vm.prank(owner);
        datasets.withdraw(scans, "consent");
        vm.expectRevert(_refusal("Withdrawn", scans));
        _fulfil(reader, _request(0), _answer());
    }

    function testNothingIsReadAnyMoreOnceTheImageIsErased() public {
        _register(owner, _scanTerms("scans", scans));
        _askFirst();
        _take(reader, reader);
        _erase(owner, scans, 0);
        vm.expectRevert(_refusal("Erased", images[0]));
        _fulfil(reader, _request(0), _answer());
    }

    function testASuspendedReaderFulfilsNothing() public {
        _askFirst();
        _take(reader, reader);
        _suspend(reader);
        vm.expectRevert(_suspendedParty(reader));
        _fulfil(reader, _request(0), _answer());
    }

    function _assertState(
        bytes32 request,
        IReadings.RequestState expected,
        address expectedTaker
    ) private view {
        (IReadings.RequestState state, address taker) = readings.requestOf(request);
        _assert(state == expected, "the request's state");
        _assert(taker == expectedTaker, "who has it");
    }

    function _unexpected(IReadings.RequestState state) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(IReadings.ReadingsUnexpectedState.selector, _id, state);
    }

    function _tooLate(uint64 deadline) private view returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReadings.ReadingsTooLate.selector,
                _id,
                deadline,
                uint256(deadline) + 1
            );
    }

    function _ownRequest() private view returns (bytes memory) {
        return abi.encodeWithSelector(IReadings.ReadingsOwnRequest.selector, owner);
    }

    function _invalidTimes(
        IReadings.Request memory request
    ) private pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReadings.ReadingsInvalidTimes.selector,
                request.takeBy,
                request.fulfilBy,
                NOW
            );
    }
}
