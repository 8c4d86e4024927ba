//! The pictures of a report, as SVG. The only module that knows the drawing library.
//!
//! Nothing is told by colour alone: receivers differ by the shape of their marks as well.

use std::fmt::Display;

use plotters::coord::CoordTranslate;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Trace;

/// A picture could not be drawn.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("drawing failed: {0}")]
pub struct ChartError(String);

/// One line of [`elapsed`].
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Row {
    /// What it is called.
    pub(super) label: String,
    /// Seconds of each complete run.
    pub(super) times: Vec<f64>,
    /// Their median, failures included.
    pub(super) median: Option<f64>,
    /// What to say at the end of the line.
    pub(super) note: String,
}

/// Pixels; the picture shrinks with the page.
const WIDTH: u32 = 960;
const ROW: u32 = 38;
const SEQUENCE_HEIGHT: u32 = 420;
const LABELS: u32 = 170;
/// Runs that are shown one by one; more would only be black.
const MAX_RINGS: usize = 300;
/// More marks than this would only be black.
const MAX_DOTS: usize = 4000;
const FONT: &str = "sans-serif";
const FONT_SIZE: i32 = 14;
/// A palette that is told apart with any kind of colour vision (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
const GREY: RGBColor = RGBColor(90, 90, 90);

/// Elapsed time of each run: a dot per run, a bar to the median; `bounds` are vertical lines.
pub(super) fn elapsed(rows: &[Row], bounds: &[(&str, f64)]) -> Result<String, ChartError> {
    let times = rows.iter().flat_map(|row| row.times.iter().copied());
    let most = times.chain(bounds.iter().map(|(_, bound)| *bound)).fold(0.0, f64::max);
    // Room at the right for notes, and above the first row for what the lines are called.
    let right = if most > 0.0 { most * 1.25 } else { 1.0 };
    let (top, bottom) = (-0.5 - 0.5 * bounds.len() as f64, rows.len() as f64 - 0.5);
    let height = 60 + ROW * rows.len() as u32 + ROW / 2 * bounds.len() as u32;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(42)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..right, bottom..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .y_labels(0)
            .x_labels(12)
            .x_label_formatter(&|s| seconds(*s, right))
            .x_desc("seconds from the assignment to the last ack")
            .label_style(font(0))
            .draw()
            .map_err(failed)?;
        let area = chart.plotting_area();
        for (n, row) in rows.iter().enumerate() {
            let y = n as f64;
            draw_text(area, (0.0, y), -8, &row.label, 0, BLACK).map_err(failed)?;
            if let Some(median) = row.median {
                let bar = [(0.0, y - 0.24), (median, y + 0.24)];
                area.draw(&Rectangle::new(bar, COLOURS[0].mix(0.3).filled())).map_err(failed)?;
                let tick = vec![(median, y - 0.34), (median, y + 0.34)];
                area.draw(&PathElement::new(tick, BLACK.stroke_width(3))).map_err(failed)?;
            }
            for time in row.times.iter().take(MAX_RINGS) {
                let dot = Circle::new((*time, y), 3, BLACK.mix(0.4).stroke_width(1));
                area.draw(&dot).map_err(failed)?;
            }
            let end = row.times.iter().copied().fold(row.median.unwrap_or(0.0), f64::max);
            draw_text(area, (end, y), 10, &row.note, 0, BLACK).map_err(failed)?;
        }
        for (n, (name, bound)) in bounds.iter().enumerate() {
            let from = top + 0.5 * n as f64 + 0.25;
            let line = PathElement::new(vec![(*bound, from), (*bound, bottom)], GREY);
            area.draw(&line).map_err(failed)?;
            let label = format!("{name}: {bound:.2} s");
            draw_text(area, (*bound, from), 6, &label, -2, GREY).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Time–sequence diagram: each chunk when it was sent, sent again and acknowledged.
pub(super) fn sequence(trace: &Trace) -> Result<String, ChartError> {
    let last = trace.points.iter().map(|point| point.seq).max().unwrap_or(0) as f64;
    let end = trace.points.iter().map(|point| point.at_s).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, SEQUENCE_HEIGHT)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .margin_right(20)
            .x_label_area_size(42)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..end.max(0.001) * 1.02, -1.0..last + 1.0)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_labels(12)
            .x_label_formatter(&|s| seconds(*s, end))
            .y_label_formatter(&|seq| format!("{seq:.0}"))
            .x_desc("seconds since the assignment")
            .y_desc("SEQ")
            .label_style(font(0))
            .draw()
            .map_err(failed)?;
        let area = chart.plotting_area();
        for point in trace.points.iter().take(MAX_DOTS) {
            let (at, shape) = ((point.at_s, point.seq as f64), point.receiver % COLOURS.len());
            let colour = COLOURS[shape];
            match point.kind {
                "resent" => area.draw(&Cross::new(at, 6, BLACK.stroke_width(2))),
                "acked" => draw_mark(area, at, shape, colour.filled()),
                _ => draw_mark(area, at, shape, colour.stroke_width(1)),
            }
            .map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// The marks of a time–sequence diagram and what they mean, in one line.
pub(super) fn sequence_key(receivers: &[String]) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, 30)).into_drawing_area();
        let names: Vec<_> = receivers.iter().take(COLOURS.len()).collect();
        let columns = names.len() as f64 + 2.0;
        let column = |n: f64| 20 + (n * f64::from(WIDTH - 20) / columns) as i32;
        for (n, name) in names.into_iter().enumerate() {
            let x = column(n as f64);
            draw_mark(&root, (x, 15), n, COLOURS[n].filled()).map_err(failed)?;
            draw_text(&root, (x, 15), 12, name, 0, BLACK).map_err(failed)?;
        }
        let x = column(columns - 2.0);
        draw_mark(&root, (x, 15), 0, GREY.stroke_width(1)).map_err(failed)?;
        draw_text(&root, (x, 15), 12, "sent; filled: acked", 0, BLACK).map_err(failed)?;
        let x = column(columns - 1.0);
        root.draw(&Cross::new((x, 15), 6, BLACK.stroke_width(2))).map_err(failed)?;
        draw_text(&root, (x, 15), 12, "sent again", 0, BLACK).map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// One receiver's mark: its shape is its own, whatever the colour.
fn draw_mark<DB: DrawingBackend, CT: CoordTranslate>(
    area: &DrawingArea<DB, CT>,
    at: CT::From,
    shape: usize,
    style: ShapeStyle,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
where
    CT::From: Clone,
{
    let triangle = vec![(0, -5), (5, 4), (-5, 4), (0, -5)];
    let diamond = |half: i32| vec![(0, -half), (half, 0), (0, half), (-half, 0), (0, -half)];
    match shape {
        0 => area.draw(&Circle::new(at, 4, style)),
        1 if style.filled => area.draw(&(EmptyElement::at(at) + Polygon::new(triangle, style))),
        1 => area.draw(&(EmptyElement::at(at) + PathElement::new(triangle, style))),
        2 => area.draw(&(EmptyElement::at(at) + Rectangle::new([(-4, -4), (4, 4)], style))),
        3 if style.filled => area.draw(&(EmptyElement::at(at) + Polygon::new(diamond(5), style))),
        3 => area.draw(&(EmptyElement::at(at) + PathElement::new(diamond(5), style))),
        4 => area.draw(&(EmptyElement::at(at) + Rectangle::new([(-2, -5), (2, 5)], style))),
        _ => area.draw(&(EmptyElement::at(at) + Rectangle::new([(-5, -2), (5, 2)], style))),
    }
}

/// Text beside a point: right of it for a positive distance, left of it for a negative one.
fn draw_text<DB: DrawingBackend, CT: CoordTranslate>(
    area: &DrawingArea<DB, CT>,
    at: CT::From,
    distance: i32,
    text: &str,
    larger: i32,
    colour: RGBColor,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
where
    CT::From: Clone,
{
    let side = if distance < 0 { HPos::Right } else { HPos::Left };
    let style = font(larger).into_font().color(&colour).pos(Pos::new(side, VPos::Center));
    area.draw(&(EmptyElement::at(at) + Text::new(text.to_owned(), (distance, 0), style)))
}

/// A mark of an axis that ends at `end` seconds.
fn seconds(at: f64, end: f64) -> String {
    if end > 10.0 { format!("{at:.0}") } else { format!("{at:.2}") }
}

const fn font(larger: i32) -> (&'static str, i32) {
    (FONT, FONT_SIZE + larger)
}

fn failed(error: impl Display) -> ChartError {
    ChartError(error.to_string())
}
