// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./IParticipantRegistry.sol";
import {IDatasetRegistry} from "./IDatasetRegistry.sol";

/// @title Which round
/// @notice The phases of a round, one record for each update, the aggregator's proposal with a
/// verdict for each record, and the witnesses' word on it. See docs/protocol.md, sections 7 to 10
/// and 13.
interface IRoundLedger {
    /// @notice A round's phase. Open becomes Collecting with its first record.
    enum Phase {
        Unknown,
        Open,
        Collecting,
        Proposed,
        Final,
        Aborted
    }

    /// @notice What became of an update.
    enum Outcome {
        Accepted,
        Clipped,
        Rejected
    }

    /// @notice What opening a round fixes.
    /// @param task Name of the series of rounds, 1 to 64 bytes.
    /// @param purpose Number of the Data Use Ontology term that the round serves.
    /// @param baseModel SHA-256 of the base model's canonical bytes; the task's last final model.
    /// @param baseBlob SHA-256 of the base model's IPFS root block.
    /// @param schema SHA-256 of the canonical tensor schema.
    /// @param rule The pipeline: its steps in canonical JSON, 1 to 1,024 bytes.
    /// @param minUpdates How many updates must be kept for a proposal, at least 1.
    /// @param maxUpdates Collecting ends with this many records, or at the deadline; at most 128.
    /// @param quorum k, the number of equal attestations that make the round final.
    /// @param deadline Unix time in seconds of the last moment for a record.
    /// @param witnesses Who may attest or dispute; ascending, at least k, at most 32.
    struct Terms {
        string task;
        uint8 purpose;
        bytes32 baseModel;
        bytes32 baseBlob;
        bytes32 schema;
        string rule;
        uint32 minUpdates;
        uint32 maxUpdates;
        uint8 quorum;
        uint64 deadline;
        address[] witnesses;
    }

    /// @notice What a hospital signs for its update (EIP-712).
    /// @param chainId The chain that it is for.
    /// @param ledger The RoundLedger that it is for.
    /// @param round The round.
    /// @param hospital The signer.
    /// @param datasets The data-set versions trained on, ascending.
    /// @param purpose What the hospital lets its data be used for; the round's purpose.
    /// @param examples How many images were trained on; the update's weight.
    /// @param baseModel The model that training began from; the round's base model.
    /// @param update The update digest (docs/protocol.md, section 3.3).
    /// @param blob SHA-256 of the IPFS root block of the envelope.
    /// @param code SHA-256 of the training code.
    /// @param epsilon Privacy spent, in millionths; zero where none is claimed.
    /// @param delta Privacy spent, in 10^-12; zero where none is claimed.
    struct UpdateRecord {
        uint64 chainId;
        address ledger;
        uint256 round;
        address hospital;
        bytes32[] datasets;
        uint8 purpose;
        uint32 examples;
        bytes32 baseModel;
        bytes32 update;
        bytes32 blob;
        bytes32 code;
        uint64 epsilon;
        uint64 delta;
    }

    /// @notice What the aggregator says of one record.
    /// @param hospital Whose record.
    /// @param outcome What became of it.
    /// @param reason Why, zero where it was accepted (docs/protocol.md, section 8).
    /// @param score The rule's or screen's score in millionths.
    /// @param threshold What the score was held against, in millionths.
    /// @param content SHA-256 of the plaintext, zero where it was never reached.
    struct Verdict {
        address hospital;
        Outcome outcome;
        uint8 reason;
        uint64 score;
        uint64 threshold;
        bytes32 content;
    }

    /// @notice Where the chain stood when a round became final; what witnesses sign (EIP-712).
    /// @param round The round.
    /// @param number The block that holds its RoundFinalized.
    /// @param hash That block's hash.
    /// @param blocks How many blocks up to it hold a log of the ledger or its registries.
    /// @param history The hash chain over these blocks (docs/protocol.md, section 13).
    struct LedgerHead {
        uint256 round;
        uint64 number;
        bytes32 hash;
        uint64 blocks;
        bytes32 history;
    }

    /// @notice What became of a hospital's updates in the final rounds of a task.
    /// @param accepted How many were accepted.
    /// @param clipped How many were clipped.
    /// @param rejected How many were rejected.
    struct Tally {
        uint32 accepted;
        uint32 clipped;
        uint32 rejected;
    }

    /// @notice Where a round stands.
    /// @param proposal How many proposals were made; zero before the first.
    /// @param disputed Whether the newest proposal is disputed.
    struct Round {
        Phase phase;
        uint8 purpose;
        uint8 quorum;
        uint8 attestations;
        bool disputed;
        uint32 minUpdates;
        uint32 maxUpdates;
        uint32 updates;
        uint32 proposal;
        uint64 deadline;
        address aggregator;
        bytes32 task;
        bytes32 baseModel;
        bytes32 schema;
        bytes32 rule;
        bytes32 model;
        bytes32 modelBlob;
        bytes32 verdicts;
    }

    event RoundOpened(
        uint256 indexed round,
        bytes32 indexed task,
        address indexed aggregator,
        Terms terms
    );
    event UpdateRecorded(
        uint256 indexed round,
        address indexed hospital,
        bytes32 recordDigest,
        bytes32[] datasets,
        uint32 examples,
        bytes32 update,
        bytes32 blob,
        bytes32 code,
        uint64 epsilon,
        uint64 delta
    );
    event ModelProposed(
        uint256 indexed round,
        uint32 indexed proposal,
        bytes32 model,
        bytes32 modelBlob,
        bytes32 verdicts
    );
    event VerdictRecorded(
        uint256 indexed round,
        uint32 indexed proposal,
        address indexed hospital,
        Outcome outcome,
        uint8 reason,
        uint64 score,
        uint64 threshold,
        bytes32 content
    );
    event ProposalAttested(
        uint256 indexed round,
        uint32 indexed proposal,
        address indexed witness,
        bytes signature
    );
    event ProposalDisputed(
        uint256 indexed round,
        uint32 indexed proposal,
        address indexed witness,
        bytes32 model,
        bytes32 verdicts,
        bytes32 evidence
    );
    event RoundFinalized(
        uint256 indexed round,
        bytes32 indexed task,
        bytes32 model,
        bytes32 modelBlob
    );
    event HeadCosigned(
        uint256 indexed round,
        address indexed witness,
        uint64 number,
        bytes32 hash,
        uint64 blocks,
        bytes32 history,
        bytes signature
    );
    event RoundAborted(uint256 indexed round, bytes32 indexed task, address by, string reason);

    error RoundLedgerUnknownRound(uint256 round);
    error RoundLedgerUnexpectedPhase(uint256 round, Phase current);
    error RoundLedgerInvalidTerms(string field);
    error RoundLedgerBaseModelMismatch(bytes32 expected, bytes32 found);
    error RoundLedgerRoundActive(bytes32 task, uint256 round);
    error RoundLedgerLateRecord(uint256 round, uint64 deadline, uint256 timestamp);
    error RoundLedgerRoundFull(uint256 round, uint32 maxUpdates);
    error RoundLedgerWrongChain(uint256 expected, uint64 found);
    error RoundLedgerWrongLedger(address expected, address found);
    error RoundLedgerDuplicateRecord(uint256 round, address hospital);
    error RoundLedgerPurposeMismatch(uint8 expected, uint8 found);
    error RoundLedgerExamplesOutOfRange(uint32 examples, uint256 images);
    error RoundLedgerEmptyDigest(string field);
    error RoundLedgerBadSignature(address expected, address recovered);
    error RoundLedgerLengthMismatch(uint256 records, uint256 signatures);
    error RoundLedgerStillCollecting(uint256 round, uint64 deadline);
    error RoundLedgerNotAggregator(uint256 round, address aggregator, address account);
    error RoundLedgerNotWitness(uint256 round, address account);
    error RoundLedgerVerdictMissing(uint256 round, uint256 expected, uint256 found);
    error RoundLedgerVerdictsNotAscending(address hospital, address next);
    error RoundLedgerNoRecord(uint256 round, address hospital);
    error RoundLedgerInvalidVerdict(address hospital);
    error RoundLedgerTooFewUpdates(uint32 minimum, uint256 kept);
    error RoundLedgerAlreadySpoken(uint256 round, uint32 proposal, address witness);
    error RoundLedgerProposalDisputed(uint256 round, uint32 proposal);
    error RoundLedgerProposalMismatch(uint32 expected, uint32 found);
    error RoundLedgerNothingToDispute(uint256 round);
    error RoundLedgerAlreadyCosigned(uint256 round, address witness);
    error RoundLedgerBlockNotPast(uint256 newest, uint64 found);
    error RoundLedgerBlockMismatch(uint64 number, bytes32 expected, bytes32 found);

    /// @notice Opens a round. Aggregators only; one round of a task at a time.
    /// @param terms What it fixes.
    /// @return round Its number, from 1.
    function openRound(Terms calldata terms) external returns (uint256 round);

    /// @notice Records the sender's own update.
    /// @param record What the sender vouches for.
    function recordUpdate(UpdateRecord calldata record) external;

    /// @notice Records a hospital's update on its signature; anyone may send it.
    /// @param record What the hospital signed.
    /// @param signature Its EIP-712 signature, 65 bytes.
    function relayUpdate(UpdateRecord calldata record, bytes calldata signature) external;

    /// @notice Records several updates, all or none.
    /// @param records What the hospitals signed.
    /// @param signatures Their signatures, in the same order.
    function relayUpdates(
        UpdateRecord[] calldata records,
        bytes[] calldata signatures
    ) external;

    /// @notice Proposes the round's model. The round's aggregator only, once collecting has ended;
    /// a proposal may be made anew while the newest one is disputed.
    /// @param round The round.
    /// @param model SHA-256 of the model's canonical bytes.
    /// @param modelBlob SHA-256 of the model's IPFS root block.
    /// @param verdicts One for each record, ascending by hospital.
    function propose(
        uint256 round,
        bytes32 model,
        bytes32 modelBlob,
        Verdict[] calldata verdicts
    ) external;

    /// @notice Records a witness's signature under the newest proposal; anyone may send it. The
    /// k-th makes the round final.
    /// @param round The round.
    /// @param proposal The proposal's number, so that a late signature hits no other one.
    /// @param witness The signer.
    /// @param signature Its EIP-712 signature over Attestation, 65 bytes.
    function attest(
        uint256 round,
        uint32 proposal,
        address witness,
        bytes calldata signature
    ) external;

    /// @notice Records that the sender, a witness of the round, got another result.
    /// @param round The round.
    /// @param proposal The proposal's number.
    /// @param model The model digest that it got, zero where it could not compute one.
    /// @param verdicts The root of verdicts that it got.
    /// @param evidence SHA-256 of the IPFS root block of its evidence.
    function dispute(
        uint256 round,
        uint32 proposal,
        bytes32 model,
        bytes32 verdicts,
        bytes32 evidence
    ) external;

    /// @notice Records a witness's signature under the head of a final round; anyone may send it,
    /// once for each witness of the round.
    /// @param head The head.
    /// @param witness The signer.
    /// @param signature Its EIP-712 signature over LedgerHead, 65 bytes.
    function cosign(
        LedgerHead calldata head,
        address witness,
        bytes calldata signature
    ) external;

    /// @notice Ends a round without a model; the base model stays as it was. Stewards at any time
    /// before it is final, its aggregator while nothing is proposed.
    /// @param round The round.
    /// @param reason Why, for the record.
    function abort(uint256 round, string calldata reason) external;

    /// @notice Looks a round up; reverts where there is none.
    /// @param round The round.
    /// @return Where it stands.
    function roundOf(uint256 round) external view returns (Round memory);

    /// @notice How many rounds were opened; they are numbered from 1.
    /// @return The number.
    function roundCount() external view returns (uint256);

    /// @notice The EIP-712 struct hash of a hospital's record, zero where it has none.
    /// @param round The round.
    /// @param hospital The hospital.
    /// @return The hash.
    function recordDigestOf(uint256 round, address hospital) external view returns (bytes32);

    /// @notice Counts what became of a hospital's updates in the final rounds of a task.
    /// @param task keccak256 of its name.
    /// @param hospital The hospital.
    /// @return The counts, zero where it has no record in a final round.
    function tallyOf(bytes32 task, address hospital) external view returns (Tally memory);

    /// @notice The task's last final model.
    /// @param task keccak256 of its name.
    /// @return model SHA-256 of its canonical bytes, zero before the first final round.
    /// @return modelBlob SHA-256 of its IPFS root block.
    /// @return round The round that made it.
    function lastFinal(
        bytes32 task
    ) external view returns (bytes32 model, bytes32 modelBlob, uint256 round);

    /// @notice The task's round that is neither final nor aborted, zero where there is none.
    /// @param task keccak256 of its name.
    /// @return The round.
    function activeRound(bytes32 task) external view returns (uint256);

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
