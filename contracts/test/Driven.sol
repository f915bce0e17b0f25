// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A driver holds what it did against what the contracts say, and tells what is not so.
interface IDriver {
    function broken() external view returns (string memory);

    function acts() external view returns (uint256);
}

/// @notice An invariant test whose acts all go through one function of a driver.
abstract contract Driven {
    /// @dev As the test runner knows it.
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    IDriver private _driver;
    bytes4 private _step;
    uint256 private _leastActs;

    error InvariantBroken(string what);

    constructor(address driver, bytes4 step, uint256 leastActs) {
        _driver = IDriver(driver);
        _step = step;
        _leastActs = leastActs;
    }

    /// @dev Runs after each run: what holds is worth nothing where hardly anything was done.
    function afterInvariant() public view {
        if (_driver.acts() < _leastActs) revert InvariantBroken("hardly anything happened");
    }

    /// @dev What the test runner draws its calls from: of this contract, this function.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_driver);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_driver), new bytes4[](1));
        targets[0].selectors[0] = _step;
    }

    function _checkDriver() internal view {
        string memory broken = _driver.broken();
        if (bytes(broken).length > 0) revert InvariantBroken(broken);
    }
}
