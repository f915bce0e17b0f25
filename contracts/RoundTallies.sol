// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "./interfaces/IRoundLedger.sol";
import {RoundRecords} from "./RoundRecords.sol";

/// @title What became of each hospital's updates
/// @notice One slot counts a hospital's outcomes in the final rounds of a task.
abstract contract RoundTallies is RoundRecords {
    uint256 private constant _COUNT_BITS = 32;
    uint256 private constant _OUTCOME_BIT = 96;
    uint256 private constant _ROUND_BIT = 128;

    /// @dev From the lowest bit: 32 bits to count each outcome, by its number, in the final rounds
    /// before `round`; 32 bits for the outcome in the newest proposal of `round`, which counts once
    /// that round is final; 128 bits for `round`. As a struct it costs 1,000 gas more a verdict.
    mapping(bytes32 task => mapping(address hospital => uint256 tally)) private _tallies;

    /// @inheritdoc IRoundLedger
    function tallyOf(bytes32 task, address hospital) external view returns (Tally memory) {
        uint256 tally = _settled(_tallies[task][hospital]);
        return
            Tally(
                uint32(tally),
                uint32(tally >> _COUNT_BITS),
                uint32(tally >> (2 * _COUNT_BITS))
            );
    }

    /// @dev A task has one round at a time, and each proposal of it has the same hospitals: what a
    /// new proposal writes over was never final, and what a new round finds is final or aborted.
    function _count(uint256 round, bytes32 task, address hospital, Outcome outcome) internal {
        uint256 tally = _tallies[task][hospital];
        if (tally >> _ROUND_BIT != round) tally = _settled(tally);
        _tallies[task][hospital] =
            uint96(tally) |
            (uint256(outcome) << _OUTCOME_BIT) |
            (round << _ROUND_BIT);
    }

    /// @dev Counts the outcome that waits, where its round is final by now.
    function _settled(uint256 tally) private view returns (uint256) {
        uint256 round = tally >> _ROUND_BIT;
        if (round == 0 || _existing(round).phase != Phase.Final) return tally;
        return tally + (1 << (_COUNT_BITS * uint32(tally >> _OUTCOME_BIT)));
    }
}
