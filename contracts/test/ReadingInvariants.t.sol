// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Driven} from "./Driven.sol";
import {ReadingDriver} from "./ReadingDriver.sol";

contract ReadingInvariantsTest is
    Driven(address(new ReadingDriver()), ReadingDriver.step.selector, 16)
{
    /// @dev A reading is never erased and only the newest of a line is corrected; a request is
    /// fulfilled once at most, in time and by who took it: the driver claims it of each act, and of
    /// everything after each step.
    function invariantReadingsStayAndRequestsAreFulfilledOnce() public view {
        _checkDriver();
    }
}
