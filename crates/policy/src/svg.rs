//! Charts as SVG: grouped bars and lines, legible on a light and on a dark page.
//! Invariant: the output is well-formed XML whatever the labels contain. Read next: `sim/report.rs`, and the reports of the benchmark program.

use std::fmt::Write as _;

/// A series of values with its name; a value may be missing.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// In order of the groups or steps.
    pub values: Vec<Option<f64>>,
}

/// Grouped bars: one group for each label, one bar in it for each series.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Above the chart.
    pub title: String,
    /// Of the values.
    pub unit: String,
    /// Labels of the groups.
    pub groups: Vec<String>,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// Lines over equal steps.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Above the chart.
    pub title: String,
    /// Of the values.
    pub unit: String,
    /// What one step along the x axis is worth, and its unit.
    pub step: f64,
    /// The unit of a step.
    pub step_unit: String,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Whether the scale of the values is.
    pub logarithmic: bool,
}

/// Colours that keep their contrast on white and on black.
const COLOURS: [&str; 8] =
    ["#d9480f", "#1c7ed6", "#2b9a66", "#9c6ade", "#b8860b", "#868e96", "#e64980", "#0c8599"];
const WIDTH_MIN: f64 = 960.0;
/// A group of bars gets at least this, so that the labels below do not run into each other.
const GROUP_WIDTH_MIN: f64 = 88.0;
/// Legible on white and on black alike: what shows the chart may not know the page's colour.
const TEXT_COLOUR: &str = "#78828c";
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 88.0;
const PLOT: f64 = 300.0;
const BOTTOM: f64 = 60.0;

impl Bars {
    /// The chart.
    pub fn svg(&self) -> String {
        let width = WIDTH_MIN.max(LEFT + RIGHT + GROUP_WIDTH_MIN * self.groups.len() as f64);
        let mut canvas =
            Canvas::new(&self.title, width, self.series.iter().map(|series| series.name.as_str()));
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten());
        let scale = Scale::linear(values.copied().fold(0.0, f64::max));
        canvas.grid(&scale, &self.unit);
        let group_width = (width - LEFT - RIGHT) / self.groups.len().max(1) as f64;
        let bar_width = group_width * 0.8 / self.series.len().max(1) as f64;
        for (group, label) in self.groups.iter().enumerate() {
            let left = LEFT + group as f64 * group_width;
            for (index, series) in self.series.iter().enumerate() {
                if let Some(Some(value)) = series.values.get(group) {
                    let x = left + group_width * 0.1 + index as f64 * bar_width;
                    canvas.bar(
                        x,
                        bar_width,
                        scale.place(*value),
                        index,
                        &format!("{}: {value:.2}", series.name),
                    );
                }
            }
            canvas.wrapped(left + group_width / 2.0, label, group_width);
        }
        canvas.finish()
    }
}

impl Lines {
    /// The chart.
    pub fn svg(&self) -> String {
        let width = WIDTH_MIN;
        let mut canvas =
            Canvas::new(&self.title, width, self.series.iter().map(|series| series.name.as_str()));
        let all = || self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let scale = if self.logarithmic {
            Scale::logarithmic(all().filter(|v| *v > 0.0).fold(f64::MAX, f64::min), all().fold(0.0, f64::max))
        } else {
            Scale::linear(all().fold(0.0, f64::max))
        };
        canvas.grid(&scale, &self.unit);
        let steps = self.series.iter().map(|series| series.values.len()).max().unwrap_or(0).max(2);
        let x_of = |step: usize| LEFT + (width - LEFT - RIGHT) * step as f64 / (steps - 1) as f64;
        for (index, series) in self.series.iter().enumerate() {
            let points = series.values.iter().enumerate();
            let points =
                points.filter_map(|(step, value)| value.map(|value| (x_of(step), scale.place(value))));
            canvas.line(points, index);
        }
        for tick in 0..=6 {
            let at = (steps - 1) as f64 * f64::from(tick) / 6.0;
            let x = LEFT + (width - LEFT - RIGHT) * f64::from(tick) / 6.0;
            canvas.text(
                x,
                TOP + PLOT + 20.0,
                "middle",
                &format!("{} {}", short(at * self.step), self.step_unit),
            );
        }
        canvas.finish()
    }
}

/// From values to heights.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    fn linear(largest: f64) -> Scale {
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let magnitude = 10f64.powf(largest.log10().floor());
        let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
        let factor = steps.into_iter().find(|step| step * magnitude >= largest * 1.02).unwrap_or(12.0);
        Scale { low: 0.0, high: factor * magnitude, logarithmic: false }
    }

    fn logarithmic(smallest: f64, largest: f64) -> Scale {
        let largest = largest.max(1e-9);
        let low = smallest.min(largest).log10().floor();
        Scale { low, high: largest.log10().ceil().max(low + 1.0), logarithmic: true }
    }

    /// The y coordinate of a value.
    fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(1e-12).log10() } else { value };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        TOP + PLOT * (1.0 - share)
    }

    /// Values to draw grid lines at.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.high - self.low) as i32;
            return (0..=decades).map(|decade| 10f64.powf(self.low + f64::from(decade))).collect();
        }
        (0..=5).map(|tick| self.high * f64::from(tick) / 5.0).collect()
    }
}

struct Canvas {
    text: String,
    width: f64,
}

impl Canvas {
    fn new<'n>(title: &str, width: f64, names: impl Iterator<Item = &'n str>) -> Canvas {
        let height = TOP + PLOT + BOTTOM;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
             <title>{}</title>\n<style>text{{font:12px system-ui,sans-serif;fill:{TEXT_COLOUR}}}\
             .h{{font-size:15px;font-weight:600}}.g{{stroke:#8c959f;stroke-opacity:.35}}\
             </style>\n\
             <text class=\"h\" x=\"{LEFT}\" y=\"22\">{}</text>\n",
            escape(title),
            escape(title)
        );
        let (mut x, mut y) = (LEFT, 36.0);
        for (index, name) in names.enumerate() {
            let room = 34.0 + name.chars().count() as f64 * 6.9;
            if x > LEFT && x + room > width {
                (x, y) = (LEFT, y + 18.0);
            }
            let fill = colour(index);
            let _ =
                writeln!(text, "<rect x=\"{x:.1}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{fill}\"/>");
            let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 17.0, y + 10.0, escape(name));
            x += room;
        }
        Canvas { text, width }
    }

    fn grid(&mut self, scale: &Scale, unit: &str) {
        for tick in scale.ticks() {
            let y = scale.place(tick);
            let right = self.width - RIGHT;
            let _ = writeln!(
                self.text,
                "<line class=\"g\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            self.text(LEFT - 6.0, y + 4.0, "end", &short(tick));
        }
        self.text(LEFT - 6.0, TOP - 10.0, "end", unit);
    }

    fn bar(&mut self, x: f64, width: f64, top: f64, index: usize, tip: &str) {
        let height = (TOP + PLOT - top).max(0.5);
        let _ = writeln!(
            self.text,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\">\
             <title>{}</title></rect>",
            (width - 1.5).max(1.0),
            colour(index),
            escape(tip)
        );
    }

    fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, index: usize) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        let colour = colour(index);
        let _ = writeln!(
            self.text,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" points=\"{}\"/>",
            path.trim_end()
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(self.text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    /// A label under a group, broken into lines that fit.
    fn wrapped(&mut self, x: f64, label: &str, width: f64) {
        let room = (width / 6.6).max(4.0) as usize;
        let mut lines: Vec<String> = vec![String::new()];
        for word in label.split(' ') {
            let fits = lines.last().is_some_and(|line| line.is_empty() || line.len() + word.len() < room);
            match lines.last_mut() {
                Some(line) if fits => {
                    line.push_str(if line.is_empty() { "" } else { " " });
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        for (index, line) in lines.iter().take(3).enumerate() {
            self.text(x, TOP + PLOT + 18.0 + 14.0 * index as f64, "middle", line);
        }
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or("#868e96")
}

/// A number with a letter for its magnitude.
pub fn short(value: f64) -> String {
    let (scaled, letter) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() >= 100.0 || scaled.fract() == 0.0 { 0 } else { 2 };
    let number = format!("{scaled:.digits$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{letter}")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c if u32::from(c) < 0x20 => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails unless every tag is closed in order, every attribute is quoted and no bare `&` or `<` is left.
    fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = svg;
        while let Some(start) = rest.find('<') {
            assert_entities(&rest[..start]);
            let end = rest[start..].find('>').expect("a tag ends") + start;
            let tag = &rest[start + 1..end];
            assert!(!tag.contains('<'), "{tag}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap());
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    fn assert_entities(text: &str) {
        for after in text.split('&').skip(1) {
            assert!(
                ["lt;", "gt;", "amp;", "quot;"].iter().any(|entity| after.starts_with(entity)),
                "{after}"
            );
        }
    }

    #[test]
    fn bars_are_well_formed_even_with_gaps_and_hostile_labels() {
        let series =
            |values: &[Option<f64>]| Series { name: "a<b> & \"c\"".to_owned(), values: values.to_vec() };
        let chart = Bars {
            title: "x & y < z".to_owned(),
            unit: "ns".to_owned(),
            groups: vec!["one <two> three four five".to_owned(), "b".to_owned()],
            series: vec![series(&[Some(10.0), None]), series(&[Some(0.0), Some(1e9)]), series(&[])],
        };
        let svg = chart.svg();
        assert_well_formed(&svg);
        assert_eq!(svg.matches("<title>a&lt;b&gt;").count(), 3, "a bar for each value that is there");
    }

    #[test]
    fn lines_are_well_formed_on_both_scales_and_when_empty() {
        for logarithmic in [false, true] {
            for values in [vec![], vec![Some(0.0)], vec![Some(1.0), None, Some(1234.5)]] {
                let chart = Lines {
                    title: "t".to_owned(),
                    unit: "ms".to_owned(),
                    step: 0.1,
                    step_unit: "s".to_owned(),
                    series: vec![Series { name: "s".to_owned(), values }],
                    logarithmic,
                };
                assert_well_formed(&chart.svg());
            }
        }
    }

    #[test]
    fn a_taller_value_stands_higher_and_stays_in_the_plot() {
        for scale in [Scale::linear(97.0), Scale::logarithmic(2.0, 97.0)] {
            assert!(scale.place(90.0) < scale.place(10.0));
            assert!(scale.place(97.0) >= TOP && scale.place(2.0) <= TOP + PLOT);
        }
        assert_eq!(short(1_500_000.0), "1.5M");
        assert_eq!(short(12_000.0), "12k");
        assert_eq!(short(100.0), "100");
        assert_eq!(short(0.25), "0.25");
    }
}
