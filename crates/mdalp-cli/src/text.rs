//! Figures and tables for people.

/// Columns aligned by blanks, two between columns; numbers to the right, the rest to the left.
/// All rows have as many cells as the first, which is the heading. Each line is indented by `indent`
/// blanks.
pub(crate) fn table(rows: &[Vec<String>], indent: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let mut lines = vec![" ".repeat(indent); rows.len()];
    for column in 0..columns {
        let cells: Vec<&str> = rows.iter().map(|row| row[column].as_str()).collect();
        let width = cells.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let body = &cells[1..];
        let right = body.iter().any(|text| is_number(text))
            && body.iter().all(|text| is_number(text) || *text == "-");
        for (line, text) in lines.iter_mut().zip(cells) {
            let pad = " ".repeat(width - text.chars().count());
            let (before, after) = if right { (&*pad, "") } else { ("", &*pad) };
            line.extend([before, text, after, "  "]);
        }
    }
    lines.iter().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

/// `12`, `3.5`, `3.5 ms`.
fn is_number(text: &str) -> bool {
    text.split(' ').next().is_some_and(|figure| figure.parse::<f64>().is_ok())
}

/// `12.3 ms`, `3.41 s`, `120.5 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 100.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// `335.148 ms`, or `-`.
pub(crate) fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3} ms"))
}

/// `1 chunk`, `2 chunks`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_numbers_are_aligned_to_the_right() {
        let row = |cells: &[&str]| cells.iter().map(ToString::to_string).collect();
        let rows = [
            row(&["who", "bytes", "srtt"]),
            row(&["a", "5", "1.000 ms"]),
            row(&["bbbb", "5000", "-"]),
        ];
        assert_eq!(
            table(&rows, 2),
            "  who   bytes      srtt\n  a         5  1.000 ms\n  bbbb   5000         -\n"
        );
        assert_eq!(table(&[], 2), "");
    }

    #[test]
    fn figures_have_the_precision_that_matters() {
        assert_eq!([0.000_31, 3.406, 120.04].map(seconds), ["0.3 ms", "3.41 s", "120.0 s"]);
        assert_eq!([count(1, "chunk"), count(0, "chunk")], ["1 chunk", "0 chunks"]);
    }
}
