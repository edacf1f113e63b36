//! Prints the graph: a table for people, and DOT for Graphviz.

use super::{cell, count, escaped, table, yes};
use crate::graph::edge::Micros;
use crate::graph::view::{GraphView, NeighbourView};

/// What stands where nothing was measured.
const NOTHING: &str = "-";

fn or_nothing<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

fn round_trip(neighbour: &NeighbourView) -> String {
    match (neighbour.edge.round_trip, neighbour.edge.deviation) {
        (Some(trip), Some(Micros(0)) | None) => trip.to_string(),
        (Some(trip), Some(deviation)) => format!("{trip} ± {deviation}"),
        (None, _) => NOTHING.to_owned(),
    }
}

/// How large the mesh is, as people read it.
pub(in crate::cli) fn mesh_size(size: u64) -> String {
    match size {
        0 | 1 => "this node alone".to_owned(),
        size => format!("about {size} nodes, as they tell each other"),
    }
}

/// `dms graph`.
pub(in crate::cli) fn graph(graph: &GraphView) -> String {
    let heard = usize::try_from(graph.heard_count).unwrap_or(usize::MAX);
    let mut text = format!("mesh  {}; {} heard of\n", mesh_size(graph.mesh_size), count(heard, "node"));
    if graph.neighbours.is_empty() {
        text.push_str("no neighbours yet (see `dms run --bootstrap`)\n");
        return text;
    }
    let row = |neighbour: &NeighbourView| {
        vec![
            neighbour.did.short(),
            yes(neighbour.is_connected).to_owned(),
            yes(neighbour.is_provider).to_owned(),
            round_trip(neighbour),
            or_nothing(neighbour.edge.bandwidth),
            or_nothing(neighbour.edge.reliability),
            or_nothing(neighbour.peer_count),
            or_nothing(neighbour.agent.as_deref().map(cell)),
        ]
    };
    let rows: Vec<_> = graph.neighbours.iter().map(row).collect();
    let head = ["NODE", "CONNECTED", "OFFERS", "ROUND TRIP", "BANDWIDTH", "ANSWERS", "ITS PEERS", "PROGRAM"];
    text.push('\n');
    text.push_str(&table(&head, &rows));
    text
}

/// Text in the quotes of DOT. What a terminal would obey is shown by its code, and so is a backslash, with which
/// Graphviz would begin something of its own.
fn quoted(text: &str) -> String {
    let text = escaped(text).replace('\\', r"\\").replace('"', r#"\""#);
    format!("\"{text}\"")
}

/// `dms graph --format dot`: the nodes by their DIDs, providers as boxes, edges with what was measured; an edge to
/// somebody who is not connected now is dashed.
pub(in crate::cli) fn dot(graph: &GraphView) -> String {
    let shape = |is_provider: bool| if is_provider { "box" } else { "ellipse" };
    let me = quoted(&graph.me.to_string());
    let mut text = String::from("graph dms {\n");
    let title = format!("mesh of {}", mesh_size(graph.mesh_size));
    text.push_str(&format!("  label={};\n", quoted(&title)));
    let label = format!("{} (this node)", graph.me.short());
    text.push_str(&format!(
        "  {me} [label={}, shape={}, style=\"bold\"];\n",
        quoted(&label),
        shape(graph.is_provider)
    ));
    for neighbour in &graph.neighbours {
        let did = quoted(&neighbour.did.to_string());
        let name = neighbour.did.short();
        let label = neighbour.agent.as_ref().map_or(name.clone(), |agent| format!("{name} {agent}"));
        text.push_str(&format!(
            "  {did} [label={}, shape={}];\n",
            quoted(&label),
            shape(neighbour.is_provider)
        ));
        let edge = &neighbour.edge;
        let measured = [
            edge.round_trip.map(|_| round_trip(neighbour)),
            edge.bandwidth.map(|it| it.to_string()),
            edge.reliability.map(|it| it.to_string()),
        ];
        let measured: Vec<String> = measured.into_iter().flatten().collect();
        let style = if neighbour.is_connected { "solid" } else { "dashed" };
        text.push_str(&format!(
            "  {me} -- {did} [label={}, style=\"{style}\"];\n",
            quoted(&measured.join(", "))
        ));
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::graph::Edge;
    use crate::graph::edge::{BytesPerSecond, PerMillion};
    use crate::testing::did;

    /// A statement as the strict reader of DOT below has it: its ids and its attributes.
    type Statement = (Vec<String>, BTreeMap<String, String>);

    /// Tokens of DOT as its grammar has them: names, quoted strings, `--` and single signs. Anything else is refused.
    fn tokens(text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                ' ' | '\n' => {}
                '-' => {
                    assert_eq!(rest.next(), Some('-'), "an undirected edge");
                    tokens.push("--".to_owned());
                }
                '{' | '}' | '[' | ']' | '=' | ',' | ';' => tokens.push(c.to_string()),
                '"' => {
                    let mut string = String::from("\"");
                    loop {
                        match rest.next().expect("a string ends") {
                            '"' => break,
                            '\\' => match rest.next() {
                                Some(c @ ('"' | '\\')) => string.push(c),
                                other => panic!("an escape of Graphviz's own: {other:?}"),
                            },
                            c if c.is_control() => panic!("a control character: {c:?}"),
                            c => string.push(c),
                        }
                    }
                    tokens.push(string);
                }
                c if c.is_ascii_alphabetic() => {
                    let mut name = c.to_string();
                    while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                        name.push(c);
                    }
                    tokens.push(name);
                }
                c => panic!("no sign of DOT: {c:?}"),
            }
        }
        tokens
    }

    /// Reads a graph: `graph NAME { … }`, each statement ended by a semicolon.
    fn read(text: &str) -> Vec<Statement> {
        let tokens = tokens(text);
        let mut at = tokens.iter().map(String::as_str);
        let mut next = || at.next().expect("it goes on");
        assert_eq!([next(), next(), next()], ["graph", "dms", "{"]);
        let mut statements = Vec::new();
        loop {
            let first = next();
            if first == "}" {
                break;
            }
            let mut statement: Statement = (vec![first.to_owned()], BTreeMap::new());
            loop {
                match next() {
                    ";" => break,
                    "--" => statement.0.push(next().to_owned()),
                    "=" => drop(statement.1.insert(first.to_owned(), next().to_owned())),
                    "[" => loop {
                        let name = next().to_owned();
                        assert_eq!(next(), "=");
                        statement.1.insert(name, next().to_owned());
                        match next() {
                            "," => {}
                            "]" => break,
                            other => panic!("{other} among attributes"),
                        }
                    },
                    other => panic!("{other} in a statement"),
                }
            }
            statements.push(statement);
        }
        assert_eq!(at.next(), None, "nothing follows");
        statements
    }

    fn neighbour(seed: u8, agent: Option<&str>, edge: Edge) -> NeighbourView {
        NeighbourView {
            did: did(seed),
            is_connected: true,
            is_trusted: true,
            is_provider: false,
            peer_count: None,
            agent: agent.map(str::to_owned),
            edge,
        }
    }

    fn example(agent: &str) -> GraphView {
        let near = Edge {
            round_trip: Some(Micros(1_200)),
            deviation: Some(Micros(300)),
            bandwidth: Some(BytesPerSecond(2_000_000)),
            reliability: Some(PerMillion(1_000_000)),
            asked: 9,
        };
        let far = Edge { round_trip: Some(Micros(80_000)), deviation: Some(Micros(0)), ..near };
        let unknown = NeighbourView { is_connected: false, ..neighbour(4, None, Edge::default()) };
        GraphView {
            me: did(1),
            is_provider: true,
            mesh_size: 112,
            heard_count: 97,
            neighbours: vec![unknown, neighbour(3, Some(agent), far), neighbour(2, None, near)],
        }
        .sorted()
    }

    #[test]
    fn the_table_is_sorted_by_the_round_trip() {
        let text = graph(&example("dms/0.1"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "mesh  about 112 nodes, as they tell each other; 97 nodes heard of");
        assert!(lines[3].contains("1.2 ms ± 0.3 ms") && lines[3].contains("2.0 MB/s"), "{text}");
        assert!(lines[4].contains("80.0 ms  ") && lines[4].ends_with("dms/0.1"), "{text}");
        assert!(lines[5].starts_with(&did(4).short()) && lines[5].contains("no "), "{text}");
        let alone = GraphView { neighbours: vec![], mesh_size: 1, heard_count: 1, ..example("") };
        assert!(graph(&alone).starts_with("mesh  this node alone; 1 node heard of\nno neighbours yet"));
    }

    #[test]
    fn graphviz_reads_it_whatever_peers_call_themselves() {
        let table = [
            "dms/0.1",
            "",
            "\"]; evil [label=\"x",
            "back\\slash\\",
            "\\\"",
            "line\nbreak\u{1b}[2J\u{202e}",
            "</TABLE> \\N \\G {a|b} -- c; // x",
            "größer ✓",
        ];
        for agent in table {
            let text = dot(&example(agent));
            let statements = read(&text);
            let nodes: Vec<_> = statements.iter().filter(|(ids, _)| ids.len() == 1).collect();
            let edges: Vec<_> = statements.iter().filter(|(ids, _)| ids.len() == 2).collect();
            assert_eq!((nodes.len(), edges.len()), (5, 3), "a title, four nodes and three edges: {text}");
            let wanted = format!("\"{} {}", did(3).short(), escaped(agent));
            assert!(nodes.iter().any(|(_, attributes)| attributes["label"] == wanted), "{text}");
            assert!(edges.iter().all(|(ids, _)| ids[0] == format!("\"{}", did(1))));
        }
        let empty = GraphView { neighbours: vec![], ..example("") };
        assert_eq!(read(&dot(&empty)).len(), 2);
    }
}
