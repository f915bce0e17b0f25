// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ImageFederation} from "./ImageFederation.sol";
import {IReadings} from "../interfaces/IReadings.sol";

/// @title A federation with readings to test on
/// @notice The first hospital has the images, the second reads for it. Identifiers are computed
/// here once more from docs/protocol.md.
abstract contract ReadingFederation is ImageFederation {
    uint64 internal constant TAKE_BY = uint64(NOW) + 1 hours;
    uint64 internal constant FULFIL_BY = uint64(NOW) + 1 days;

    address internal owner;
    address internal reader;
    address internal clinician = vm.addr(5);

    function setUp() public virtual override {
        super.setUp();
        owner = hospitals[0];
        reader = hospitals[1];
    }

    function _appoint(address hospital, address account, uint64 until) internal {
        vm.prank(hospital);
        readings.appoint(account, until);
    }

    function _record(
        address author,
        IReadings.Reading memory reading,
        uint256 image
    ) internal returns (bytes32) {
        bytes32[] memory proof = _proofOf(image);
        vm.prank(author);
        return readings.record(reading, proof);
    }

    /// @dev The first image's reading by the owner itself.
    function _recordFirst() internal returns (bytes32) {
        return _record(owner, _reading(0), 0);
    }

    function _correct(address author, bytes32 reading) internal returns (bytes32) {
        vm.prank(author);
        return readings.correct(reading, "new document", "new blob", "wrong side");
    }

    function _compare(
        address author,
        bytes32 own,
        bytes32 other,
        IReadings.Agreement agreement
    ) internal {
        vm.prank(author);
        readings.compare(own, other, agreement);
    }

    function _ask(
        address author,
        IReadings.Request memory request,
        uint256 image
    ) internal returns (bytes32) {
        bytes32[] memory proof = _proofOf(image);
        vm.prank(author);
        return readings.ask(request, proof);
    }

    /// @dev The owner's request about the first image.
    function _askFirst() internal returns (bytes32) {
        return _ask(owner, _request(0), 0);
    }

    function _take(address author, address hospital) internal {
        IReadings.Request memory request = _request(0);
        vm.prank(author);
        readings.take(request, hospital);
    }

    function _release(address author) internal {
        IReadings.Request memory request = _request(0);
        vm.prank(author);
        readings.release(request);
    }

    function _cancel(address author) internal {
        IReadings.Request memory request = _request(0);
        vm.prank(author);
        readings.cancel(request);
    }

    function _fulfil(
        address author,
        IReadings.Request memory request,
        IReadings.Reading memory reading
    ) internal returns (bytes32) {
        vm.prank(author);
        return readings.fulfil(request, reading);
    }

    function _reading(uint256 image) internal view returns (IReadings.Reading memory) {
        return
            IReadings.Reading({
                version: scans,
                image: images[image],
                hospital: owner,
                opinionOn: bytes32(0),
                document: "document",
                blob: "blob"
            });
    }

    /// @dev What the reading hospital answers to the request about the first image.
    function _answer() internal view returns (IReadings.Reading memory answer) {
        answer = _reading(0);
        answer.hospital = reader;
    }

    function _request(uint256 image) internal view returns (IReadings.Request memory) {
        return
            IReadings.Request({
                version: scans,
                image: images[image],
                hospital: owner,
                reader: address(0),
                opinionOn: bytes32(0),
                takeBy: TAKE_BY,
                fulfilBy: FULFIL_BY,
                question: "question"
            });
    }

    function _readingId(
        address author,
        IReadings.Reading memory reading
    ) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(readings), author, reading));
    }

    function _correctionId(address author, bytes32 reading) internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    block.chainid,
                    address(readings),
                    author,
                    reading,
                    bytes32("new document"),
                    bytes32("new blob")
                )
            );
    }

    function _requestId(IReadings.Request memory request) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(readings), request));
    }

    /// @dev An error of the contract's whose one argument is 32 bytes.
    function _refusal(string memory what, bytes32 about) internal pure returns (bytes memory) {
        return abi.encodeWithSignature(string.concat("Readings", what, "(bytes32)"), about);
    }

    /// @dev One whose two arguments are 32 bytes each.
    function _refusal(
        string memory what,
        bytes32 one,
        bytes32 two
    ) internal pure returns (bytes memory) {
        string memory signature = string.concat("Readings", what, "(bytes32,bytes32)");
        return abi.encodeWithSignature(signature, one, two);
    }

    function _notAppointed(
        address hospital,
        address account
    ) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IReadings.ReadingsNotAppointed.selector,
                hospital,
                account
            );
    }
}
