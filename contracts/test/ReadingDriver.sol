// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReadings} from "../interfaces/IReadings.sol";
import {ReadingFederation} from "./ReadingFederation.sol";

/// @title Everything that happens to readings and requests, in any order
/// @notice The invariant tests call these at random; refusals are part of the run. What is noted
/// here is what the parties did, and what may follow from it is said by docs/protocol.md.
contract ReadingDriver is ReadingFederation {
    struct Asked {
        IReadings.Request terms;
        IReadings.RequestState state;
        address taker;
        uint256 fulfilments;
    }

    string public broken;
    uint256 public acts;
    uint256 private _time = NOW;
    uint256 private _tries;
    uint256 private _documents;
    bool private _isWithdrawn;
    bytes32[] private _ids;
    mapping(bytes32 id => bytes32 standing) private _standings;
    mapping(bytes32 id => bytes32 correction) private _corrections;
    mapping(address account => bool suspended) private _suspended;
    mapping(bytes32 image => bool erased) private _erased;
    mapping(address hospital => uint256 until) private _appointed;
    Asked[] private _asked;

    constructor() {
        setUp();
    }

    /// @dev The runner calls this too; a second federation would leave the first one idle.
    function setUp() public override {
        if (address(ledger) != address(0)) return;
        super.setUp();
        _register(owner, _scanTerms("scans", scans)); // Superseded, and readable still.
    }

    /// @dev Some acts, each of which may be refused, and then a look at everything.
    function step(uint256 dice) external {
        for (uint256 i = 0; i < 4; ++i) {
            try this.act(uint256(keccak256(abi.encode(dice, ++_tries)))) {
                ++acts;
            } catch {
                continue; // It was refused.
            }
        }
        _checkReadings();
        _checkRequests();
    }

    /// @dev What ends things is seldom, for something to happen before.
    function act(uint256 dice) external {
        vm.warp(_time); // The runner may forget it between two calls.
        uint8 what = uint8(dice) % 64;
        (uint8 a, uint8 b, uint8 c) = (uint8(dice >> 8), uint8(dice >> 16), uint8(dice >> 24));
        uint16 time = uint16(dice >> 32);
        address hospital = hospitals[a % 3];
        if (what < 10) _recordOne(a, b, c);
        else if (what < 18) _correctOne(a, b);
        else if (what < 24) _compareTwo(a, b, c);
        else if (what < 32) _askOne(a, b, time, uint16(dice >> 48) / 16);
        else if (what < 41) _takeOne(a, b);
        else if (what < 51) _fulfilOne(a, b, c);
        else if (what < 53) _releaseOne(a, b);
        else if (what < 55) _cancelOne(a, b);
        else if (what < 58) _appointFor(hospital, time);
        else if (what < 61) _pass(time / 4);
        else if (what < 62) _eraseImage(a);
        else if (what < 63 || _suspended[hospital]) _suspendOrReinstate(hospital);
        else if (b < 32) _withdrawScans();
    }

    function _pass(uint16 time) private {
        _time += time;
    }

    function _appointFor(address hospital, uint16 time) private {
        _appoint(hospital, clinician, uint64(_time) + time);
        bool isSooner = _time + time < _appointed[hospital];
        _claim(!_suspended[hospital] || isSooner, "appointed by a suspended hospital");
        _appointed[hospital] = _time + time;
    }

    function _suspendOrReinstate(address hospital) private {
        vm.prank(steward);
        if (_suspended[hospital]) participants.reinstate(hospital);
        else participants.suspend(hospital, "by chance");
        _suspended[hospital] = !_suspended[hospital];
    }

    /// @dev Never of the first image.
    function _eraseImage(uint8 image) private {
        uint256 which = 1 + (image % (images.length - 1));
        _erase(owner, scans, which);
        _erased[images[which]] = true;
    }

    function _withdrawScans() private {
        vm.prank(owner);
        datasets.withdraw(scans, "by chance");
        _isWithdrawn = true;
    }

    /// @dev Now and then by a hospital that was not asked, now and then a second opinion.
    function _recordOne(uint8 image, uint8 by, uint8 on) private {
        address hospital = by < 32 ? reader : owner;
        IReadings.Reading memory reading = _fresh(image % images.length, hospital);
        if (on % 4 == 0 && _ids.length > 0) reading.opinionOn = _ids[on / 4 % _ids.length];
        address sender = _sender(by, reading.hospital);
        bytes32 id = _record(sender, reading, image % images.length);
        _claim(reading.hospital == owner, "recorded by another hospital, unasked");
        _noteReading(id, reading, sender);
    }

    function _correctOne(uint8 which, uint8 by) private {
        bytes32 id = _ids[which % _ids.length];
        IReadings.Standing memory before = readings.readingOf(id);
        address sender = _sender(by, before.hospital);
        bytes32 document = keccak256(abi.encode(++_documents));
        vm.prank(sender);
        bytes32 correction = readings.correct(id, document, "blob", "by chance");
        _claim(_mayAct(sender, before.hospital), "corrected by who may not");
        _claim(_corrections[id] == 0, "corrected, and not the newest of its line");
        _corrections[id] = correction;
        (before.author, before.corrects, before.correctedBy) = (sender, id, bytes32(0));
        _note(correction, before);
    }

    function _compareTwo(uint8 one, uint8 two, uint8 by) private {
        bytes32 own = _ids[one % _ids.length];
        bytes32 other = _ids[two % _ids.length];
        IReadings.Standing memory mine = readings.readingOf(own);
        address sender = _sender(by, mine.hospital);
        _compare(sender, own, other, IReadings.Agreement.Agrees);
        _claim(sender == mine.author, "compared by another than its author");
        _claim(_mayAct(sender, mine.hospital), "compared by who may not");
        _claim(_corrections[own] == 0 && _corrections[other] == 0, "compared, and not the newest");
        IReadings.Standing memory theirs = readings.readingOf(other);
        _claim(theirs.author != sender && theirs.image == mine.image, "compared with its own");
    }

    function _askOne(uint8 image, uint8 by, uint16 take_, uint16 more) private {
        IReadings.Request memory request = _request(image % images.length);
        request.takeBy = uint64(_time) + take_;
        request.fulfilBy = request.takeBy + more;
        request.question = keccak256(abi.encode(++_documents));
        if (by % 16 > 11) request.reader = hospitals[by % 3];
        address sender = _sender(by, owner);
        _ask(sender, request, image % images.length);
        _claim(_mayAct(sender, owner), "asked by who may not");
        _claim(_mayBeRead(request.image), "asked about what may not be read");
        _claim(take_ > 0 && request.reader != owner, "asked in vain");
        _asked.push(Asked(request, IReadings.RequestState.Open, address(0), 0));
    }

    function _takeOne(uint8 which, uint8 by) private {
        Asked storage asked = _asked[_recent(which)];
        address hospital = hospitals[by / 8 % 3];
        address sender = _sender(by, hospital);
        IReadings.Request memory terms = asked.terms;
        vm.prank(sender);
        readings.take(terms, hospital);
        _claim(_mayAct(sender, hospital), "taken by who may not");
        _claim(asked.state == IReadings.RequestState.Open, "taken, and not open");
        _claim(_time <= terms.takeBy, "taken too late");
        _claim(hospital != owner, "taken by who asked");
        _claim(!_suspended[owner], "taken of a suspended hospital");
        _claim(terms.reader == address(0) || terms.reader == hospital, "taken by another reader");
        (asked.state, asked.taker) = (IReadings.RequestState.Taken, hospital);
    }

    function _releaseOne(uint8 which, uint8 by) private {
        Asked storage asked = _asked[_recent(which)];
        address sender = _sender(by, asked.taker);
        IReadings.Request memory terms = asked.terms;
        vm.prank(sender);
        readings.release(terms);
        _claim(_mayAct(sender, asked.taker), "released by who may not");
        _claim(asked.state == IReadings.RequestState.Taken, "released, and not taken");
        (asked.state, asked.taker) = (IReadings.RequestState.Open, address(0));
    }

    function _cancelOne(uint8 which, uint8 by) private {
        Asked storage asked = _asked[_recent(which)];
        address sender = _sender(by, owner);
        IReadings.Request memory terms = asked.terms;
        vm.prank(sender);
        readings.cancel(terms);
        _claim(_mayAct(sender, owner), "cancelled by who may not");
        bool isLost = _time > terms.fulfilBy || _suspended[asked.taker];
        isLost = isLost && asked.state == IReadings.RequestState.Taken;
        _claim(asked.state == IReadings.RequestState.Open || isLost, "cancelled too early");
        (asked.state, asked.taker) = (IReadings.RequestState.Cancelled, address(0));
    }

    /// @dev Now and then by a hospital that may not have taken it, now and then of any image.
    function _fulfilOne(uint8 which, uint8 by, uint8 lie) private {
        Asked storage asked = _asked[_recent(which)];
        IReadings.Request memory terms = asked.terms;
        IReadings.Reading memory reading = _fresh(lie % images.length, asked.taker);
        if (lie % 4 == 0) reading.hospital = hospitals[by / 8 % 3];
        if (lie % 4 != 1) reading.image = terms.image;
        address sender = _sender(by, reading.hospital);
        bytes32 id = _fulfil(sender, terms, reading);
        _claim(asked.state == IReadings.RequestState.Taken, "fulfilled, and not taken");
        _claim(asked.taker == reading.hospital, "fulfilled by who did not take it");
        _claim(_time <= terms.fulfilBy, "fulfilled too late");
        _claim(reading.image == terms.image, "fulfilled with another image");
        asked.state = IReadings.RequestState.Fulfilled;
        ++asked.fulfilments;
        _noteReading(id, reading, sender);
    }

    function _checkReadings() private {
        for (uint256 i = 0; i < _ids.length; ++i) {
            IReadings.Standing memory found = readings.readingOf(_ids[i]);
            _claim(found.correctedBy == _corrections[_ids[i]], "another correction");
            found.correctedBy = 0;
            _claim(keccak256(abi.encode(found)) == _standings[_ids[i]], "changed or erased");
        }
    }

    function _checkRequests() private {
        for (uint256 i = 0; i < _asked.length; ++i) {
            Asked storage asked = _asked[i];
            (IReadings.RequestState state, address taker) = readings.requestOf(
                _requestId(asked.terms)
            );
            _claim(state == asked.state && taker == asked.taker, "another state or taker");
            bool isFulfilled = state == IReadings.RequestState.Fulfilled;
            _claim(asked.fulfilments == (isFulfilled ? 1 : 0), "fulfilled more than once");
        }
    }

    function _noteReading(
        bytes32 id,
        IReadings.Reading memory reading,
        address sender
    ) private {
        _claim(_mayAct(sender, reading.hospital), "read by who may not");
        _claim(_mayBeRead(reading.image), "read, and may not be");
        if (reading.opinionOn != 0) {
            IReadings.Standing memory first = readings.readingOf(reading.opinionOn);
            _claim(first.author != sender && first.image == reading.image, "on one's own");
        }
        _note(
            id,
            IReadings.Standing({
                image: reading.image,
                hospital: reading.hospital,
                author: sender,
                opinionOn: reading.opinionOn,
                corrects: bytes32(0),
                correctedBy: bytes32(0)
            })
        );
    }

    function _note(bytes32 id, IReadings.Standing memory standing) private {
        _claim(_standings[id] == 0, "recorded twice");
        _ids.push(id);
        _standings[id] = keccak256(abi.encode(standing));
    }

    function _fresh(
        uint256 image,
        address hospital
    ) private returns (IReadings.Reading memory reading) {
        reading = _reading(image);
        reading.hospital = hospital;
        reading.document = keccak256(abi.encode(++_documents));
    }

    function _claim(bool holds, string memory what) private {
        if (!holds) broken = what;
    }

    /// @dev One of the last four, for requests to get to their end.
    function _recent(uint8 which) private view returns (uint256) {
        uint256 few = _asked.length < 4 ? _asked.length : 4;
        return _asked.length - 1 - (which % few);
    }

    function _mayAct(address sender, address hospital) private view returns (bool) {
        if (_suspended[hospital]) return false;
        return sender == hospital || (sender == clinician && _appointed[hospital] >= _time);
    }

    function _mayBeRead(bytes32 image) private view returns (bool) {
        return !_isWithdrawn && !_erased[image];
    }

    /// @dev The hospital more often than its clinician, another hospital and nobody's.
    function _sender(uint8 by, address hospital) private view returns (address) {
        if (by % 8 < 4) return hospital;
        if (by % 8 < 7) return clinician;
        return by % 16 == 7 ? hospitals[3] : stranger;
    }
}
