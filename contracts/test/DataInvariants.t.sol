// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DataDriver} from "./DataDriver.sol";
import {Driven} from "./Driven.sol";

contract DataInvariantsTest is Driven(address(new DataDriver()), DataDriver.step.selector, 64) {
    /// @dev A grant is live exactly while everything that it needs holds, no update passes for a
    /// purpose that one of its versions forbids, no version's content changes: the driver claims it
    /// of each act, and of everything after each step.
    function invariantNothingIsSeenOrUsedButAsItsHospitalPermits() public view {
        _checkDriver();
    }
}
