// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReadings} from "./interfaces/IReadings.sol";
import {ReadingRecords} from "./ReadingRecords.sol";

/// @title The requests for readings
/// @notice One slot holds where a request stands and who has it; whoever acts on one names its
/// terms, whose hash it is known by.
abstract contract ReadingRequests is ReadingRecords {
    /// @dev One slot.
    struct Progress {
        RequestState state;
        address taker;
    }

    mapping(bytes32 request => Progress progress) private _requests;

    /// @inheritdoc IReadings
    function ask(
        Request calldata request,
        bytes32[] calldata proof
    ) external returns (bytes32 id) {
        _checkSender(request.hospital);
        if (request.reader == request.hospital) revert ReadingsOwnRequest(request.hospital);
        // A validator can move the time by seconds; requests last for hours.
        // slither-disable-next-line timestamp
        if (request.takeBy <= block.timestamp || request.fulfilBy < request.takeBy)
            revert ReadingsInvalidTimes(request.takeBy, request.fulfilBy, block.timestamp);
        _checkImage(request.version, request.image, request.hospital, proof);
        if (request.opinionOn != 0) _checkReadingOf(request.image, request.opinionOn);
        id = _idOf(request);
        if (_requests[id].state != RequestState.Unknown) revert ReadingsAlreadyAsked(id);

        _requests[id].state = RequestState.Open;
        emit ReadingRequested(
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
    }

    /// @inheritdoc IReadings
    function take(Request calldata request, address hospital) external {
        bytes32 id = _idOf(request);
        Progress storage progress = _askedIn(id, RequestState.Open);
        _checkSender(hospital);
        _checkHospital(request.hospital);
        if (hospital == request.hospital) revert ReadingsOwnRequest(hospital);
        if (request.reader != address(0) && request.reader != hospital)
            revert ReadingsNotReader(id, request.reader, hospital);
        _checkTime(id, request.takeBy);

        (progress.state, progress.taker) = (RequestState.Taken, hospital);
        emit RequestTaken(id, hospital, msg.sender);
    }

    /// @inheritdoc IReadings
    function release(Request calldata request) external {
        bytes32 id = _idOf(request);
        Progress storage progress = _askedIn(id, RequestState.Taken);
        address hospital = progress.taker;
        _checkSender(hospital);

        (progress.state, progress.taker) = (RequestState.Open, address(0));
        emit RequestReleased(id, hospital, msg.sender);
    }

    /// @inheritdoc IReadings
    function cancel(Request calldata request) external {
        bytes32 id = _idOf(request);
        Progress storage progress = _asked(id);
        _checkSender(request.hospital);
        RequestState state = progress.state;
        if (state != RequestState.Open && state != RequestState.Taken)
            revert ReadingsUnexpectedState(id, state);
        // A validator can move the time by seconds; requests last for hours.
        // slither-disable-next-line timestamp
        bool inTime = state == RequestState.Taken && block.timestamp <= request.fulfilBy;
        if (inTime && _isActive(progress.taker))
            revert ReadingsTooEarly(id, request.fulfilBy, block.timestamp);

        (progress.state, progress.taker) = (RequestState.Cancelled, address(0));
        emit RequestCancelled(id, msg.sender);
    }

    /// @inheritdoc IReadings
    function fulfil(
        Request calldata request,
        Reading calldata reading
    ) external returns (bytes32 id) {
        bytes32 asked = _idOf(request);
        Progress storage progress = _askedIn(asked, RequestState.Taken);
        if (progress.taker != reading.hospital)
            revert ReadingsNotTaker(asked, progress.taker, reading.hospital);
        _checkSender(reading.hospital);
        _checkTime(asked, request.fulfilBy);
        if (reading.version != request.version)
            revert ReadingsOtherVersion(request.version, reading.version);
        _checkSameImage(request.image, reading.image);
        if (request.opinionOn != 0 && reading.opinionOn != request.opinionOn)
            revert ReadingsOtherOpinion(request.opinionOn, reading.opinionOn);
        _checkReadable(request.version, request.image, request.hospital);

        id = _record(reading, asked);
        progress.state = RequestState.Fulfilled;
        emit RequestFulfilled(asked, id);
    }

    /// @inheritdoc IReadings
    function requestOf(bytes32 id) external view returns (RequestState state, address taker) {
        Progress storage progress = _requests[id];
        return (progress.state, progress.taker);
    }

    function _idOf(Request calldata request) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), request));
    }

    function _asked(bytes32 id) private view returns (Progress storage progress) {
        progress = _requests[id];
        if (progress.state == RequestState.Unknown) revert ReadingsUnknownRequest(id);
    }

    function _askedIn(
        bytes32 id,
        RequestState state
    ) private view returns (Progress storage progress) {
        progress = _asked(id);
        if (progress.state != state) revert ReadingsUnexpectedState(id, progress.state);
    }

    /// @dev A deadline's last second is in time.
    function _checkTime(bytes32 id, uint64 deadline) private view {
        // A validator can move the time by seconds; requests last for hours.
        // slither-disable-next-line timestamp
        if (block.timestamp > deadline) revert ReadingsTooLate(id, deadline, block.timestamp);
    }
}
