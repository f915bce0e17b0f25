// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "./IDatasetRegistry.sol";
import {IParticipantRegistry} from "./IParticipantRegistry.sol";

/// @title Who said what of an image
/// @notice Clinicians' readings of images: a digest, an author and a time for each document, which
/// is encrypted and lies on IPFS. Readings are corrected, never erased. A hospital reads its own
/// images, and another's once it took that one's request. See docs/protocol.md, section 16.
interface IReadings {
    /// @notice How far two readings of an image agree, after the scores 1, 2 and 3 of ACR RADPEER.
    enum Agreement {
        Unknown,
        Agrees,
        MinorDiscrepancy,
        MajorDiscrepancy
    }

    /// @notice Where a request stands.
    enum RequestState {
        Unknown,
        Open,
        Taken,
        Fulfilled,
        Cancelled
    }

    /// @notice What a clinician says of an image.
    /// @param version The data-set version that the image is in.
    /// @param image The image's commitment.
    /// @param hospital In whose name it is read.
    /// @param opinionOn The reading that this is a second opinion on, zero for none.
    /// @param document SHA-256 of the salted document.
    /// @param blob SHA-256 of the envelope that holds it.
    struct Reading {
        bytes32 version;
        bytes32 image;
        address hospital;
        bytes32 opinionOn;
        bytes32 document;
        bytes32 blob;
    }

    /// @notice What a hospital asks of other hospitals.
    /// @param version The data-set version that the image is in.
    /// @param image The image's commitment.
    /// @param hospital Who asks, and whose version it is.
    /// @param reader Who may take it, zero for any hospital.
    /// @param opinionOn The reading that a second opinion is wanted on, zero for none.
    /// @param takeBy Unix time in seconds after which it cannot be taken.
    /// @param fulfilBy Unix time in seconds after which it cannot be fulfilled.
    /// @param question SHA-256 of the envelope that holds the question, zero for none.
    struct Request {
        bytes32 version;
        bytes32 image;
        address hospital;
        address reader;
        bytes32 opinionOn;
        uint64 takeBy;
        uint64 fulfilBy;
        bytes32 question;
    }

    /// @notice What is kept of a reading; the event has the rest.
    /// @param image The image's commitment.
    /// @param hospital In whose name it was read.
    /// @param author Who sent it, zero where there is no such reading.
    /// @param opinionOn The reading that it is a second opinion on, zero for none.
    /// @param corrects The reading that it corrects, zero for none.
    /// @param correctedBy The reading that corrects it, zero for the newest of its line.
    struct Standing {
        bytes32 image;
        address hospital;
        address author;
        bytes32 opinionOn;
        bytes32 corrects;
        bytes32 correctedBy;
    }

    event ClinicianAppointed(address indexed hospital, address indexed clinician, uint64 until);
    event ReadingRecorded(
        bytes32 indexed reading,
        bytes32 indexed image,
        address indexed hospital,
        address author,
        bytes32 version,
        bytes32 opinionOn,
        bytes32 request,
        bytes32 document,
        bytes32 blob
    );
    event ReadingCorrected(
        bytes32 indexed reading,
        bytes32 indexed correction,
        bytes32 indexed image,
        address hospital,
        address author,
        bytes32 document,
        bytes32 blob,
        string reason
    );
    event ReadingsCompared(
        bytes32 indexed own,
        bytes32 indexed other,
        bytes32 indexed image,
        address author,
        Agreement agreement
    );
    event ReadingRequested(
        bytes32 indexed request,
        bytes32 indexed image,
        address indexed hospital,
        bytes32 version,
        address reader,
        bytes32 opinionOn,
        uint64 takeBy,
        uint64 fulfilBy,
        bytes32 question
    );
    event RequestTaken(bytes32 indexed request, address indexed hospital, address author);
    event RequestReleased(bytes32 indexed request, address indexed hospital, address author);
    event RequestFulfilled(bytes32 indexed request, bytes32 indexed reading);
    event RequestCancelled(bytes32 indexed request, address author);

    error ReadingsNotAppointed(address hospital, address account);
    error ReadingsNotOwner(bytes32 version, address hospital, address account);
    error ReadingsWithdrawn(bytes32 version);
    error ReadingsNotInVersion(bytes32 version, bytes32 image);
    error ReadingsErased(bytes32 image);
    error ReadingsEmptyDigest(string field);
    error ReadingsUnknownReading(bytes32 reading);
    error ReadingsAlreadyRecorded(bytes32 reading);
    error ReadingsAlreadyCorrected(bytes32 reading, bytes32 correction);
    error ReadingsOtherVersion(bytes32 expected, bytes32 found);
    error ReadingsOtherImage(bytes32 expected, bytes32 found);
    error ReadingsOtherOpinion(bytes32 expected, bytes32 found);
    error ReadingsSameAuthor(bytes32 reading, address author);
    error ReadingsNotAuthor(bytes32 reading, address author, address account);
    error ReadingsNoAgreement();
    error ReadingsUnknownRequest(bytes32 request);
    error ReadingsAlreadyAsked(bytes32 request);
    error ReadingsUnexpectedState(bytes32 request, RequestState state);
    error ReadingsInvalidTimes(uint64 takeBy, uint64 fulfilBy, uint256 timestamp);
    error ReadingsTooLate(bytes32 request, uint64 deadline, uint256 timestamp);
    error ReadingsTooEarly(bytes32 request, uint64 deadline, uint256 timestamp);
    error ReadingsOwnRequest(address hospital);
    error ReadingsNotReader(bytes32 request, address reader, address hospital);
    error ReadingsNotTaker(bytes32 request, address taker, address hospital);

    /// @notice Lets a clinician read, ask and take in the sender's name. Hospitals only; one that
    /// is suspended can still bring the end forward.
    /// @param clinician Who.
    /// @param until Unix time in seconds after which that ends; zero ends it now.
    function appoint(address clinician, uint64 until) external;

    /// @notice Until when an account may act in a hospital's name.
    /// @param hospital The hospital.
    /// @param clinician The account.
    /// @return Unix time in seconds, zero where it never may.
    function appointedUntil(
        address hospital,
        address clinician
    ) external view returns (uint64);

    /// @notice Records a reading of the hospital's own image. The sender, who is its author, is the
    /// hospital or its clinician; the version is not withdrawn, the image not erased.
    /// @param reading What it says.
    /// @param proof The Merkle proof that the image is in the version.
    /// @return id keccak256(abi.encode(chain id, this contract, sender, reading)).
    function record(
        Reading calldata reading,
        bytes32[] calldata proof
    ) external returns (bytes32 id);

    /// @notice Records a reading that was asked for, by who took the request and in time.
    /// @param request The request's terms.
    /// @param reading Of the same image in the same version, on the same reading if on any.
    /// @return id As of `record`.
    function fulfil(
        Request calldata request,
        Reading calldata reading
    ) external returns (bytes32 id);

    /// @notice Puts another document in the place of the newest of a line of corrections, which
    /// stays on record. The sender is its hospital or a clinician of that, and not the author of
    /// what the line is an opinion on.
    /// @param reading The corrected reading.
    /// @param document SHA-256 of the salted document.
    /// @param blob SHA-256 of the envelope that holds it.
    /// @param reason Why, for the record; never about a patient.
    /// @return id keccak256(abi.encode(chain id, this contract, sender, reading, document, blob)).
    function correct(
        bytes32 reading,
        bytes32 document,
        bytes32 blob,
        string calldata reason
    ) external returns (bytes32 id);

    /// @notice Says how far two authors' newest readings of one image agree. The author of one
    /// says so, and may say so again: the last word counts.
    /// @param own The sender's.
    /// @param other The other's.
    /// @param agreement How far.
    function compare(bytes32 own, bytes32 other, Agreement agreement) external;

    /// @notice Asks other hospitals to read an image of the sender's hospital.
    /// @param request What is asked.
    /// @param proof The Merkle proof that the image is in the version.
    /// @return id keccak256(abi.encode(chain id, this contract, request)).
    function ask(
        Request calldata request,
        bytes32[] calldata proof
    ) external returns (bytes32 id);

    /// @notice Takes an open request of an active hospital.
    /// @param request Its terms.
    /// @param hospital Who takes it: the sender, or whose clinician the sender is.
    function take(Request calldata request, address hospital) external;

    /// @notice Gives a request back, as who took it; it is open again.
    /// @param request Its terms.
    function release(Request calldata request) external;

    /// @notice Ends a request without a reading, as who asked: while it is open, or when who took
    /// it let the time pass or was suspended.
    /// @param request Its terms.
    function cancel(Request calldata request) external;

    /// @notice What is kept of a reading.
    /// @param id The reading.
    /// @return Its standing; the author is zero where there is no such reading.
    function readingOf(bytes32 id) external view returns (Standing memory);

    /// @notice Where a request stands.
    /// @param id The request.
    /// @return state Its state.
    /// @return taker Who took it, zero where nobody has it.
    function requestOf(bytes32 id) external view returns (RequestState state, address taker);

    /// @notice Who may act.
    /// @return The registry.
    function participants() external view returns (IParticipantRegistry);

    /// @notice Which data.
    /// @return The registry.
    function datasets() external view returns (IDatasetRegistry);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
