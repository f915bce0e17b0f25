// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {IImageAccess} from "../interfaces/IImageAccess.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {ImageFederation} from "./ImageFederation.sol";

/// @title Everything that happens to data sets, their grants and their use, in any order
/// @notice The invariant tests call these at random; refusals are part of the run. What is noted
/// here is what the parties did, and what may be seen and used follows from docs/protocol.md.
contract DataDriver is ImageFederation {
    struct Known {
        uint256 hospital;
        IDatasetRegistry.State state;
        uint48 purposes;
        bytes32 content;
    }

    struct Granted {
        IImageAccess.Grant terms;
        bool revoked;
    }

    uint256 private constant _PARTIES = 2;
    uint256 private constant _LINES = 3;

    string public broken;
    uint256 public acts;
    uint256 private _time = NOW;
    uint256 private _tries;
    uint256 private _tasks;
    bytes32[] private _known;
    mapping(bytes32 version => Known known) private _of;
    mapping(uint256 hospital => mapping(uint256 line => bytes32 version)) private _heads;
    mapping(address account => bool suspended) private _suspended;
    mapping(uint256 hospital => mapping(bytes32 image => bool erased)) private _erased;
    mapping(uint256 hospital => uint256 until) private _delegated;
    Granted[] private _granted;

    constructor() {
        setUp();
    }

    /// @dev The runner calls this too; a second federation would leave the first one idle.
    function setUp() public override {
        if (address(ledger) != address(0)) return;
        super.setUp();
        for (uint256 i = 0; i < _PARTIES * _LINES; ++i) _succeed(i % _PARTIES, i / _PARTIES);
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
        vm.warp(_time);
        _checkGrants();
        _checkVersions();
    }

    /// @dev What ends things is seldom, for something to happen before.
    function act(uint256 dice) external {
        vm.warp(_time); // The runner may forget it between two calls.
        uint8 what = uint8(dice) % 32;
        (uint8 a, uint8 b, uint8 c) = (uint8(dice >> 8), uint8(dice >> 16), uint8(dice >> 24));
        uint16 time = uint16(dice >> 32);
        if (what < 8) _train(a, b, c, uint8(dice >> 48));
        else if (what < 15) _grant(a, b, c, uint8(dice >> 48), time);
        else if (what < 18) _revoke(a, b);
        else if (what < 21) _permit(a, b);
        else if (what < 24) _supersede(a);
        else if (what < 26) _delegate(a, time);
        else if (what < 28) _pass(time);
        else if (what < 29) _withdrawOne(a);
        else if (what < 30) _eraseFrom(a, b);
        else if (what < 31 || _suspended[_suspect(a)]) _suspendOrReinstate(_suspect(a));
    }

    function _supersede(uint8 which) private {
        _succeed(which % _PARTIES, (which / _PARTIES) % _LINES);
    }

    function _withdrawOne(uint8 which) private {
        bytes32 version = _known[which % _known.length];
        vm.prank(hospitals[_of[version].hospital]);
        datasets.withdraw(version, "by chance");
        _of[version].state = IDatasetRegistry.State.Withdrawn;
    }

    /// @dev A copied commitment is erased by whoever copied it, for itself alone.
    function _eraseFrom(uint8 which, uint8 image) private {
        bytes32 version = _known[which % _known.length];
        Known storage known = _of[version];
        _erase(hospitals[known.hospital], version, image % images.length);
        _erased[known.hospital][images[image % images.length]] = true;
        if (known.state == IDatasetRegistry.State.Active)
            known.state = IDatasetRegistry.State.Withdrawn;
    }

    function _permit(uint8 which, uint8 purposes) private {
        bytes32 version = _known[which % _known.length];
        vm.prank(hospitals[_of[version].hospital]);
        datasets.permitPurposes(version, _purposes(purposes));
        _of[version].purposes = _purposes(purposes);
    }

    function _suspendOrReinstate(address account) private {
        vm.prank(steward);
        if (_suspended[account]) participants.reinstate(account);
        else participants.suspend(account, "by chance");
        _suspended[account] = !_suspended[account];
    }

    function _pass(uint16 time) private {
        _time += time;
    }

    function _delegate(uint8 which, uint16 time) private {
        uint256 hospital = which % _PARTIES;
        vm.prank(hospitals[hospital]);
        access.delegate(stranger, uint64(_time) + time);
        _delegated[hospital] = _time + time;
    }

    /// @dev Of the whole version or of an image in it, by any of four senders.
    function _grant(
        uint8 which,
        uint8 image,
        uint8 by,
        uint8 purpose,
        uint16 time
    ) private {
        bytes32 version = _known[which % _known.length];
        uint256 hospital = by < 16 ? 1 - _of[version].hospital : _of[version].hospital;
        IImageAccess.Grant memory terms;
        terms.version = version;
        terms.hospital = hospitals[hospital];
        terms.researcher = researcher;
        terms.purpose = _purpose(purpose);
        terms.expiry = uint64(_time) + time;
        bytes32[] memory proof = new bytes32[](0);
        if (image % 2 == 1) {
            terms.image = images[image % images.length];
            proof = _proofOf(image % images.length);
        }
        address sender = _sender(by, hospital);
        vm.prank(sender);
        access.grant(terms, proof);
        _claim(_mayChange(sender, hospital), "granted by who may not");
        _claim(!_suspended[terms.hospital], "granted for who is suspended");
        _claim(time > 0, "granted when it was over");
        _granted.push(Granted(terms, false));
    }

    function _revoke(uint8 which, uint8 by) private {
        Granted storage granted = _granted[which % _granted.length];
        uint256 hospital = granted.terms.hospital == hospitals[0] ? 0 : 1;
        address sender = _sender(by, hospital);
        vm.prank(sender);
        access.revoke(granted.terms);
        _claim(_mayChange(sender, hospital), "revoked by who may not");
        _claim(!granted.revoked, "revoked twice");
        granted.revoked = true;
    }

    /// @dev An update on two versions of one party, now and then another's, now and then under
    /// another purpose than the round's.
    function _train(uint8 one, uint8 two, uint8 purpose, uint8 lie) private {
        uint256 round = _openFor(_purpose(purpose));
        uint256 hospital = lie % _PARTIES;
        IRoundLedger.UpdateRecord memory record = _record(round, hospital);
        record.datasets = _chosen(hospital, one, two, lie);
        record.purpose = lie % 8 == 7 ? _purpose(purpose + 1) : _purpose(purpose);
        record.examples = 1;
        bytes memory signature = _sign(hospitalKeys[hospital], _hashOf(record));
        bool permitted = lie % 8 != 7 && !_suspended[hospitals[hospital]];
        for (uint256 i = 0; i < record.datasets.length; ++i)
            permitted = permitted && _isUsable(record.datasets[i], hospital, record.purpose);
        try ledger.relayUpdate(record, signature) {
            _claim(permitted, "used for what is forbidden");
        } catch {
            _claim(!permitted, "refused though it is permitted");
        }
    }

    function _checkGrants() private {
        for (uint256 i = 0; i < _granted.length; ++i) {
            bool isLive = access.isLive(_granted[i].terms);
            _claim(isLive == _shouldBeLive(_granted[i]), "live or not, against what was done");
            IImageAccess.Grant memory longer = _granted[i].terms;
            longer.expiry += 7 days;
            _claim(!access.isLive(longer), "live, and nobody granted it");
        }
    }

    function _checkVersions() private {
        for (uint256 i = 0; i < _known.length; ++i) {
            Known storage known = _of[_known[i]];
            IDatasetRegistry.Version memory found = datasets.versionOf(_known[i]);
            _claim(found.state == known.state, "another state");
            _claim(found.purposes == known.purposes, "other purposes");
            _claim(_contentOf(found) == known.content, "another content");
        }
    }

    function _succeed(uint256 hospital, uint256 line) private {
        bytes32 before = _heads[hospital][line];
        IDatasetRegistry.Terms memory terms = _scanTerms(string(abi.encode(line)), before);
        terms.purposes = _purposes(255);
        bytes32 version = _register(hospitals[hospital], terms);
        _heads[hospital][line] = version;
        if (_of[before].state == IDatasetRegistry.State.Active)
            _of[before].state = IDatasetRegistry.State.Superseded;
        _known.push(version);
        _of[version] = Known(
            hospital,
            IDatasetRegistry.State.Active,
            terms.purposes,
            _contentOf(datasets.versionOf(version))
        );
    }

    function _openFor(uint8 purpose) private returns (uint256) {
        IRoundLedger.Terms memory terms = _terms();
        terms.task = string(abi.encode(++_tasks));
        terms.purpose = purpose;
        terms.deadline = uint64(_time) + 1 hours;
        return _open(terms);
    }

    function _claim(bool holds, string memory what) private {
        if (!holds) broken = what;
    }

    function _chosen(
        uint256 hospital,
        uint8 one,
        uint8 two,
        uint8 lie
    ) private view returns (bytes32[] memory chosen) {
        bytes32 first = _heads[hospital][one % _LINES];
        bytes32 second = _heads[hospital][two % _LINES];
        if (lie % 8 == 5) second = _heads[1 - hospital][two % _LINES];
        if (lie % 8 == 6) second = _known[two % _known.length];
        if (first == second) return _list(first);
        chosen = new bytes32[](2);
        (chosen[0], chosen[1]) = first < second ? (first, second) : (second, first);
    }

    function _suspect(uint8 who) private view returns (address) {
        return who % 3 == 2 ? researcher : hospitals[who % 3];
    }

    function _shouldBeLive(Granted storage granted) private view returns (bool) {
        IImageAccess.Grant storage terms = granted.terms;
        uint256 hospital = terms.hospital == hospitals[0] ? 0 : 1;
        return
            !granted.revoked &&
            _time <= terms.expiry &&
            !_suspended[terms.researcher] &&
            !_suspended[terms.hospital] &&
            !_erased[hospital][terms.image] &&
            _isUsable(terms.version, hospital, terms.purpose);
    }

    function _isUsable(
        bytes32 version,
        uint256 hospital,
        uint8 purpose
    ) private view returns (bool) {
        Known storage known = _of[version];
        return
            known.hospital == hospital &&
            known.state == IDatasetRegistry.State.Active &&
            (known.purposes >> purpose) & 1 == 1;
    }

    function _mayChange(address sender, uint256 hospital) private view returns (bool) {
        if (sender == hospitals[hospital]) return true;
        return sender == stranger && _delegated[hospital] >= _time;
    }

    /// @dev The hospital more often than the data steward, the other hospital and the researcher.
    function _sender(uint8 by, uint256 hospital) private view returns (address) {
        if (by % 8 < 2) return stranger;
        if (by % 8 == 2) return hospitals[1 - hospital];
        return by % 8 == 3 ? researcher : hospitals[hospital];
    }

    function _contentOf(
        IDatasetRegistry.Version memory found
    ) private pure returns (bytes32) {
        found.state = IDatasetRegistry.State.Unknown;
        found.purposes = 0;
        return keccak256(abi.encode(found));
    }

    /// @dev Two purposes, each of which is permitted three times of four.
    function _purposes(uint8 choice) private pure returns (uint48) {
        uint48 one = choice % 4 == 0 ? 0 : uint48(1) << _purpose(0);
        uint48 other = (choice / 4) % 4 == 0 ? 0 : uint48(1) << _purpose(1);
        return one | other;
    }

    function _purpose(uint8 choice) private pure returns (uint8) {
        return choice % 2 == 0 ? 6 : 42;
    }
}
