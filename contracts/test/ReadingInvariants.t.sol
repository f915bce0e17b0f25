// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReadingDriver} from "./ReadingDriver.sol";

contract ReadingInvariantsTest {
    /// @dev As the test runner knows it.
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    ReadingDriver private _driver;

    error InvariantBroken(string what);

    function setUp() public {
        _driver = new ReadingDriver();
    }

    /// @dev A reading is never erased and only the newest of a line is corrected; a request is
    /// fulfilled once at most, in time and by who took it: the driver claims it of each act, and of
    /// everything after each step.
    function invariantReadingsStayAndRequestsAreFulfilledOnce() public view {
        string memory broken = _driver.broken();
        if (bytes(broken).length > 0) revert InvariantBroken(broken);
    }

    /// @dev Runs after each run: what holds of readings and requests is worth nothing without any.
    function afterInvariant() public view {
        if (_driver.acts() < 16) revert InvariantBroken("hardly anything happened");
    }

    /// @dev What the test runner draws its calls from: of this contract, this function.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_driver);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_driver), new bytes4[](1));
        targets[0].selectors[0] = ReadingDriver.step.selector;
    }
}
