// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "./Vm.sol";
import {IAccessLogs} from "../interfaces/IAccessLogs.sol";
import {IDatasetRegistry} from "../interfaces/IDatasetRegistry.sol";
import {IImageAccess} from "../interfaces/IImageAccess.sol";
import {IParticipantRegistry} from "../interfaces/IParticipantRegistry.sol";
import {IReadings} from "../interfaces/IReadings.sol";
import {IRoundLedger} from "../interfaces/IRoundLedger.sol";
import {Roles} from "../Roles.sol";

/// @title A federation to test on
/// @notice One steward, one aggregator, one researcher, three witnesses, four hospitals, each with
/// a version of 100 images. Witnesses and hospitals ascend by address. Hashes are computed here
/// once more from docs/protocol.md, without the contracts' own code.
abstract contract Federation {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint256 internal constant NOW = 1_800_000_000;
    uint64 internal constant DEADLINE = uint64(NOW) + 1 days;
    uint8 internal constant PURPOSE = 6;
    uint32 internal constant IMAGES = 100;
    bytes32 internal constant BASE_MODEL = keccak256("base model");
    bytes32 internal constant BASE_BLOB = keccak256("base blob");
    bytes32 internal constant MODEL = keccak256("model");
    bytes32 internal constant MODEL_BLOB = keccak256("model blob");
    bytes32 internal constant TASK = keccak256("lesions");

    IParticipantRegistry internal participants;
    IDatasetRegistry internal datasets;
    IRoundLedger internal ledger;
    IAccessLogs internal accessLogs;
    IReadings internal readings;
    IImageAccess internal access;
    address internal steward = vm.addr(1);
    address internal aggregator = vm.addr(2);
    address internal researcher = vm.addr(3);
    address internal stranger = vm.addr(4);
    uint256[] internal witnessKeys;
    address[] internal witnesses;
    uint256[] internal hospitalKeys;
    address[] internal hospitals;
    bytes32[] internal versions;

    error AssertionFailed(string what);

    function setUp() public virtual {
        vm.warp(NOW);
        participants = IParticipantRegistry(
            _deploy("ParticipantRegistry", abi.encode(steward, _keyOf(steward), "Steward"))
        );
        datasets = IDatasetRegistry(_deploy("DatasetRegistry", abi.encode(participants)));
        bytes memory registries = abi.encode(participants, datasets);
        ledger = IRoundLedger(_deploy("RoundLedger", registries));
        accessLogs = IAccessLogs(_deploy("AccessLogs", abi.encode(participants)));
        readings = IReadings(_deploy("Readings", registries));
        access = IImageAccess(
            _deploy("ImageAccess", abi.encode(participants, datasets, accessLogs, readings))
        );
        _enroll(aggregator, Roles.AGGREGATOR);
        _enroll(researcher, Roles.RESEARCHER);
        (witnessKeys, witnesses) = _accounts(100, 3);
        for (uint256 i = 0; i < witnesses.length; ++i) _enroll(witnesses[i], Roles.WITNESS);
        (hospitalKeys, hospitals) = _accounts(200, 4);
        for (uint256 i = 0; i < hospitals.length; ++i) {
            _enroll(hospitals[i], Roles.HOSPITAL);
            versions.push(_register(hospitals[i], _versionTerms()));
        }
    }

    /// @dev By name, since `new` would compile the contracts again into each test.
    function _deploy(string memory name, bytes memory args) internal returns (address deployed) {
        bytes memory code = vm.getCode(string.concat(name, ".sol:", name));
        code = bytes.concat(code, args);
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
        }
        _assert(deployed != address(0), string.concat("deployed ", name));
    }

    function _enroll(address account, bytes32 role) internal {
        vm.prank(steward);
        participants.enroll(account, role, _keyOf(account), "Party");
    }

    function _suspend(address account) internal {
        vm.prank(steward);
        participants.suspend(account, "lost key");
    }

    function _register(
        address hospital,
        IDatasetRegistry.Terms memory terms
    ) internal returns (bytes32) {
        vm.prank(hospital);
        return datasets.registerVersion(terms);
    }

    function _withdraw(uint256 hospital) internal {
        vm.prank(hospitals[hospital]);
        datasets.withdraw(versions[hospital], "consent");
    }

    function _open() internal returns (uint256) {
        return _open(_terms());
    }

    function _open(IRoundLedger.Terms memory terms) internal returns (uint256) {
        vm.prank(aggregator);
        return ledger.openRound(terms);
    }

    function _relay(IRoundLedger.UpdateRecord memory record, uint256 key) internal {
        bytes memory signature = _sign(key, _hashOf(record));
        ledger.relayUpdate(record, signature);
    }

    /// @dev Opens a round and takes the records of the first `count` hospitals.
    function _openWithRecords(uint256 count) internal returns (uint256 round) {
        round = _open();
        for (uint256 i = 0; i < count; ++i) _relay(_record(round, i), hospitalKeys[i]);
    }

    function _propose(uint256 round, uint256 count) internal {
        vm.warp(DEADLINE + 1);
        IRoundLedger.Verdict[] memory verdicts = _verdicts(count);
        vm.prank(aggregator);
        ledger.propose(round, MODEL, MODEL_BLOB, verdicts);
    }

    function _attest(uint256 round, uint32 proposal, uint256 witness) internal {
        bytes memory signature = _attestation(round, proposal, witnessKeys[witness]);
        ledger.attest(round, proposal, witnesses[witness], signature);
    }

    function _dispute(uint256 round, uint32 proposal, uint256 witness) internal {
        vm.prank(witnesses[witness]);
        ledger.dispute(round, proposal, bytes32(0), bytes32(0), keccak256("evidence"));
    }

    /// @dev A final round of the task, made of two records.
    function _finish() internal returns (uint256 round) {
        round = _openWithRecords(2);
        _propose(round, 2);
        _attest(round, 1, 0);
        _attest(round, 1, 1);
    }

    function _sign(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domain(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function _attestation(
        uint256 round,
        uint32 proposal,
        uint256 key
    ) internal view returns (bytes memory) {
        IRoundLedger.Round memory state = ledger.roundOf(round);
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    // solhint-disable-next-line max-line-length
                    "Attestation(uint256 round,uint32 proposal,bytes32 model,bytes32 modelBlob,bytes32 verdicts)"
                ),
                round,
                proposal,
                state.model,
                state.modelBlob,
                state.verdicts
            )
        );
        return _sign(key, structHash);
    }

    function _accounts(
        uint256 firstKey,
        uint256 count
    ) internal pure returns (uint256[] memory keys, address[] memory accounts) {
        keys = new uint256[](count);
        accounts = new address[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 key = firstKey + i;
            address account = vm.addr(key);
            uint256 place = i;
            for (; place > 0 && accounts[place - 1] > account; --place)
                (accounts[place], keys[place]) = (accounts[place - 1], keys[place - 1]);
            (accounts[place], keys[place]) = (account, key);
        }
    }

    function _record(
        uint256 round,
        uint256 hospital
    ) internal view returns (IRoundLedger.UpdateRecord memory) {
        return
            IRoundLedger.UpdateRecord({
                chainId: uint64(block.chainid),
                ledger: address(ledger),
                round: round,
                hospital: hospitals[hospital],
                datasets: _list(versions[hospital]),
                purpose: PURPOSE,
                examples: IMAGES,
                baseModel: BASE_MODEL,
                update: keccak256(abi.encode("update", round, hospital)),
                blob: keccak256(abi.encode("blob", round, hospital)),
                code: keccak256("code"),
                epsilon: 1_500_000,
                delta: 10_000_000
            });
    }

    function _verdicts(uint256 count) internal view returns (IRoundLedger.Verdict[] memory all) {
        all = new IRoundLedger.Verdict[](count);
        for (uint256 i = 0; i < count; ++i) {
            all[i].hospital = hospitals[i];
            all[i].score = uint64(100 + i);
            all[i].threshold = 900_000;
            all[i].content = keccak256(abi.encode("content", i));
        }
    }

    function _terms() internal view returns (IRoundLedger.Terms memory) {
        return
            IRoundLedger.Terms({
                task: "lesions",
                purpose: PURPOSE,
                baseModel: BASE_MODEL,
                baseBlob: BASE_BLOB,
                schema: keccak256("schema"),
                rule: '[{"name":"fed_avg","params":{}}]',
                minUpdates: 2,
                maxUpdates: 4,
                quorum: 2,
                deadline: DEADLINE,
                witnesses: witnesses
            });
    }

    function _domain() internal view returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    keccak256(
                        // solhint-disable-next-line max-line-length
                        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
                    ),
                    keccak256("FedWitness"),
                    keccak256("1"),
                    block.chainid,
                    address(ledger)
                )
            );
    }

    function _versionTerms() internal pure returns (IDatasetRegistry.Terms memory) {
        return
            IDatasetRegistry.Terms({
                name: "brains",
                merkleRoot: keccak256("images"),
                images: IMAGES,
                modality: "MR",
                purposes: uint48(1) << PURPOSE,
                profile: 1,
                attestation: keccak256("report"),
                previous: bytes32(0)
            });
    }

    function _hashOf(IRoundLedger.UpdateRecord memory record) internal pure returns (bytes32) {
        bytes32 kind = keccak256(
            // solhint-disable-next-line max-line-length
            "UpdateRecord(uint64 chainId,address ledger,uint256 round,address hospital,bytes32[] datasets,uint8 purpose,uint32 examples,bytes32 baseModel,bytes32 update,bytes32 blob,bytes32 code,uint64 epsilon,uint64 delta)"
        );
        bytes memory head = abi.encode(
            kind,
            record.chainId,
            record.ledger,
            record.round,
            record.hospital,
            keccak256(abi.encodePacked(record.datasets)),
            record.purpose
        );
        bytes memory tail = abi.encode(
            record.examples,
            record.baseModel,
            record.update,
            record.blob,
            record.code,
            record.epsilon,
            record.delta
        );
        return keccak256(bytes.concat(head, tail));
    }

    function _unknownParty(address account, bytes32 role) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistryUnknownParticipant.selector,
                account,
                role
            );
    }

    function _suspendedParty(address account) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IParticipantRegistry.ParticipantRegistrySuspended.selector,
                account
            );
    }

    function _unknownRound(uint256 round) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(IRoundLedger.RoundLedgerUnknownRound.selector, round);
    }

    function _unexpected(
        uint256 round,
        IRoundLedger.Phase phase
    ) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerUnexpectedPhase.selector,
                round,
                phase
            );
    }

    function _mismatch(bytes32 expected, bytes32 found) internal pure returns (bytes memory) {
        return
            abi.encodeWithSelector(
                IRoundLedger.RoundLedgerBaseModelMismatch.selector,
                expected,
                found
            );
    }

    function _emptyDigest(string memory field) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IRoundLedger.RoundLedgerEmptyDigest.selector, field);
    }

    function _keyOf(address account) internal pure returns (bytes32) {
        return keccak256(abi.encode("X25519", account));
    }

    function _list(bytes32 item) internal pure returns (bytes32[] memory items) {
        items = new bytes32[](1);
        items[0] = item;
    }

    function _text(uint256 length) internal pure returns (string memory) {
        bytes memory text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) text[i] = "x";
        return string(text);
    }

    function _bound(uint256 x, uint256 least, uint256 most) internal pure returns (uint256) {
        return least + (x % (most - least + 1));
    }

    function _assert(bool holds, string memory what) internal pure {
        if (!holds) revert AssertionFailed(what);
    }
}
