// What a filter's box takes: `act == elu and test_accuracy > 86`. Its twin is expressions.py.
window.actsweep ??= {};
{
  const TOKEN = /\s*(?:("[^"]*"|'[^']*')|(==|!=|<=|>=|[<>~()])|([^\s()"'=!<>~]+)|(\S))/gy;
  const OPERATORS = ["==", "!=", "<", "<=", ">", ">=", "~"];
  const NUMBER = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$/i;
  const WORDS = /[^\s,;=]+/g;

  class FilterError extends Error {}

  // A token is its text, and whether it was quoted: then it is never an operator or a keyword.
  function tokens(text) {
    const found = [];
    for (const [whole, quoted, operator, word, other] of text.trimEnd().matchAll(TOKEN)) {
      if (other === '"' || other === "'") throw new FilterError(`${other}: isn't closed`);
      if (other) throw new FilterError(`${other}: not understood; ${OPERATORS.join(" ")} compare`);
      found.push({ text: quoted?.slice(1, -1) ?? operator ?? word, quoted: quoted !== undefined,
                   operator: operator !== undefined });
    }
    return found;
  }

  const number = (value) =>
    typeof value === "number" ? value
      : typeof value === "string" && NUMBER.test(value.trim()) ? Number(value) : NaN;

  const textOf = (value) => (value === null || value === undefined ? "–" : String(value));

  // A number as the table shows it.
  const rounded = (value, digits) => (!digits || !Number.isFinite(value) ? value
    : Number(digits.endsWith("f") ? value.toFixed(parseInt(digits, 10)) : value.toPrecision(parseInt(digits, 10))));

  // Whether a value is what was typed, or a number is shown as that.
  function equal(value, typed, digits) {
    const [x, y] = [number(value), number(typed)];
    if (!Number.isNaN(x) && !Number.isNaN(y))
      return [x, rounded(x, digits)].some((z) => Math.abs(z - y) <= 1e-9 * Math.max(Math.abs(z), Math.abs(y)));
    return textOf(value).toLowerCase() === typed.toLowerCase();
  }

  const ORDERS = { "<": (x, y) => x < y, "<=": (x, y) => x <= y,
                   ">": (x, y) => x > y, ">=": (x, y) => x >= y };

  function comparison(column, operator, typed) {
    if (operator === "==") return (row) => equal(column.value(row), typed, column.digits);
    if (operator === "!=") return (row) => !equal(column.value(row), typed, column.digits);
    if (operator === "~") {
      const part = typed.toLowerCase();
      return (row) => textOf(column.value(row)).toLowerCase().includes(part);
    }
    const limit = number(typed);
    if (Number.isNaN(limit))
      throw new FilterError(`${column.name} ${operator} ${typed}: ${typed} isn't a number`);
    return (row) => ORDERS[operator](number(column.value(row)), limit);
  }

  // A bare word is one of the words in a column that is shown, or the whole of it.
  function bareWord(columns, typed) {
    const word = typed.toLowerCase();
    return (row) => columns.some((column) => {
      const text = textOf(column.value(row)).toLowerCase();
      return text === word || (text.match(WORDS) ?? []).includes(word);
    });
  }

  // A word that was meant as part of a comparison: as a word it would keep no row.
  function checkBare(word, columns) {
    const key = word.toLowerCase();
    if (key === "in") throw new FilterError("in: compare with each value, (act == relu or act == tanh)");
    if (columns.some((c) => c.name.toLowerCase() === key || c.title.toLowerCase() === key))
      throw new FilterError(`${word}: is a column; compare it, ${word} == value, or quote the word: "${word}"`);
  }

  function find(columns, name) {
    const key = name.toLowerCase();
    const column = columns.find((c) => c.name.toLowerCase() === key)
      ?? columns.find((c) => c.title.toLowerCase() === key);
    if (column) return column;
    const known = columns.filter((c) => c.shown).map((c) => (c.title.includes(" ") ? c.name : c.title));
    throw new FilterError(`${name}: no such column; there are ${known.join(", ")}, and those under Columns`);
  }

  // or < and < not < comparison; words that only stand side by side are joined by `and`.
  function parse(text, columns) {
    const left = tokens(text);
    const shown = columns.filter((column) => column.shown);
    const peek = () => left[0];
    const is = (token, word) => token !== undefined && !token.quoted && token.text.toLowerCase() === word;
    const keyword = (token) => ["and", "or"].some((word) => is(token, word));

    function any() {
      let test = all();
      while (is(peek(), "or")) {
        left.shift();
        const [a, b] = [test, all()];
        test = (row) => a(row) || b(row);
      }
      return test;
    }
    function all() {
      let test = one();
      while (peek() && !is(peek(), "or") && !is(peek(), ")")) {
        if (is(peek(), "and")) left.shift();
        const [a, b] = [test, one()];
        test = (row) => a(row) && b(row);
      }
      return test;
    }
    function one() {
      const token = left.shift();
      if (token === undefined) throw new FilterError("something is missing at the end");
      if (is(token, "not")) {
        const test = one();
        return (row) => !test(row);
      }
      if (is(token, "(")) {
        const test = any();
        if (!is(left.shift(), ")")) throw new FilterError("(: isn't closed");
        return test;
      }
      if (keyword(token)) throw new FilterError(`${token.text}: needs something before it`);
      if (token.operator && token.text === ")") throw new FilterError("): nothing to close");
      if (token.operator) throw new FilterError(`${token.text}: needs a column before it`);
      if (!peek()?.operator || !OPERATORS.includes(peek().text)) {
        if (!token.quoted) checkBare(token.text, columns);
        return bareWord(shown, token.text);
      }
      const column = find(columns, token.text), operator = left.shift().text, value = left.shift();
      if (value === undefined || value.operator || keyword(value))
        throw new FilterError(`${token.text} ${operator}: needs a value`);
      return comparison(column, operator, value.text);
    }

    if (!left.length) return () => true;
    const test = any();
    if (left.length) throw new FilterError("): nothing to close");
    return test;
  }

  actsweep.filter = { parse, FilterError, textOf, number };
}
