// The moves of a game with their branches. A node is a position; its first child is the main line.

class Node {
  constructor(move, parent) {
    this.move = move;
    this.parent = parent;
    this.children = [];
    this.position = null; // what /api/position answered
    this.analysis = null; // the deepest answer of the search
    this.review = null; // its row of the last review
  }

  get ply() {
    let count = 0;
    for (let node = this; node.parent; node = node.parent) count += 1;
    return count;
  }

  // The moves from the start to here.
  get moves() {
    const found = [];
    for (let node = this; node.parent; node = node.parent) found.unshift(node.move);
    return found;
  }
}

export class GameTree {
  constructor(start = null) {
    this.start = start; // the start position's text; null: the game's own
    this.root = new Node(null, null);
    this.current = this.root;
  }

  // The child of the current node with this move, made where it is not there.
  add(move, position = null, from = this.current) {
    let child = from.children.find((one) => one.move === move);
    if (!child) {
      child = new Node(move, from);
      from.children.push(child);
    }
    child.position ||= position;
    return child;
  }

  addLine(moves) {
    let node = this.root;
    for (const move of moves) node = this.add(move, null, node);
    return node;
  }

  // Take a node and all after it away; the current one becomes its parent.
  remove(node) {
    if (!node.parent) return;
    node.parent.children = node.parent.children.filter((one) => one !== node);
    this.current = node.parent;
  }

  // All nodes from the root through the current one and on along the main line.
  get line() {
    const found = [];
    for (let node = this.current; node; node = node.parent) found.unshift(node);
    for (let node = this.current.children[0]; node; node = node.children[0]) found.push(node);
    return found;
  }

  // As data: [move, child, child, …] for each node; made without recursion, a game may have hundreds of moves.
  toData() {
    const data = [null];
    const waiting = [[this.root, data]];
    while (waiting.length) {
      const [node, into] = waiting.pop();
      for (const child of node.children) {
        const made = [child.move];
        into.push(made);
        waiting.push([child, made]);
      }
    }
    return data;
  }

  static fromData(start, data) {
    const tree = new GameTree(start);
    const waiting = [[tree.root, data]];
    while (waiting.length) {
      const [node, from] = waiting.pop();
      for (const child of from.slice(1)) {
        if (!Array.isArray(child) || typeof child[0] !== "string") throw new Error("not a game");
        waiting.push([tree.add(child[0], null, node), child]);
      }
    }
    return tree;
  }
}
