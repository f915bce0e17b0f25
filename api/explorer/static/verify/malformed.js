/** Bytes or text that are not of the form that docs/protocol.md gives them. */
export class Malformed extends Error {
  /**
   * @param {string} subject What was read, such as "header of block 7".
   * @param {string} expected What should have been there.
   * @param {string} found What was there.
   */
  constructor(subject, expected, found) {
    super(`${subject}: expected ${expected}, found ${found}`);
    this.name = "Malformed";
    this.subject = subject;
    this.expected = expected;
    this.found = found;
  }
}
