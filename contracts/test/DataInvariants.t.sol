// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DataDriver} from "./DataDriver.sol";

contract DataInvariantsTest {
    /// @dev As the test runner knows it.
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    DataDriver private _driver;

    error InvariantBroken(string what);

    function setUp() public {
        _driver = new DataDriver();
    }

    /// @dev A grant is live exactly while everything that it needs holds, no update passes for a
    /// purpose that one of its versions forbids, no version's content changes: the driver claims it
    /// of each act, and of everything after each step.
    function invariantNothingIsSeenOrUsedButAsItsHospitalPermits() public view {
        string memory broken = _driver.broken();
        if (bytes(broken).length > 0) revert InvariantBroken(broken);
    }

    /// @dev Runs after each run: what holds of grants and updates is worth nothing without any.
    function afterInvariant() public view {
        if (_driver.acts() < 64) revert InvariantBroken("hardly anything happened");
    }

    /// @dev What the test runner draws its calls from: of this contract, this function.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_driver);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_driver), new bytes4[](1));
        targets[0].selectors[0] = DataDriver.step.selector;
    }
}
