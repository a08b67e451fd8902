//! What models make of what they are sent: how much fits into their context, and what an image, a page, or a second of
//! sound becomes. One table, by the beginnings of their names.
//!
//! The figures are the providers' own, from their pages on vision, documents, audio and token counting of 2026, and
//! where those are silent or wrong, what others have measured. A model that came later counts as the last of its family
//! known here.

use crate::dialect::Dialect;

/// What the models of one family have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    /// How their names begin, behind everything that vendors and clouds put before them.
    name: &'static str,
    /// Input and output together, in tokens. Of embeddings it is what one request may hold.
    pub(super) context: u64,
    /// Tokens of a text, in percent of what OpenAI's o200k makes of it.
    pub(super) text_percent: u64,
    /// What an image becomes.
    pub(super) image: Vision,
    /// Tokens of one page of a document, its picture and its text together.
    pub(super) page: u64,
    /// Tokens of a second of sound.
    pub(super) audio_second: u64,
    /// Tokens of a second of film, its sound included.
    pub(super) video_second: u64,
}

/// What becomes of an image, by its width and height.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Vision {
    /// OpenAI's older way: within 2048 by 2048, its shorter side at most 768, in tiles of 512.
    Tiles { base: u64, tile: u64 },
    /// OpenAI's newer way: patches of 32, at most so many, times a factor in hundredths. Where an image may be sent in
    /// its `original` size, there may be more of them.
    Patches { most: u64, original: u64, percent: u64 },
    /// Anthropic's, and that of most open models: patches of 28, within so long an edge and at most so many.
    Squares { edge: u64, most: u64 },
    /// Google's up to Gemini 2: small ones cost this once, larger ones once for each crop of two thirds of their
    /// shorter side.
    Crops { crop: u64 },
    /// Google's since Gemini 3: by the resolution that is asked for, and the highest one that is not the finest without
    /// it.
    Levels,
    /// xAI's: tiles of 448, at most six, and one more for the whole.
    Grok,
}

/// How closely an image is to be looked at, as far as it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Low,
    Medium,
    High,
    Finest,
}

impl Detail {
    /// From OpenAI's `detail` and Google's `mediaResolution`.
    pub(super) fn from_word(word: &str) -> Option<Detail> {
        match word {
            "low" | "MEDIA_RESOLUTION_LOW" => Some(Detail::Low),
            "medium" | "MEDIA_RESOLUTION_MEDIUM" => Some(Detail::Medium),
            "high" | "MEDIA_RESOLUTION_HIGH" => Some(Detail::High),
            "original" | "MEDIA_RESOLUTION_ULTRA_HIGH" => Some(Detail::Finest),
            _ => None,
        }
    }
}

const OPENAI: Family = Family {
    name: "gpt-",
    context: 1_050_000,
    text_percent: 100,
    image: Vision::Patches { most: 2_500, original: 10_000, percent: 120 },
    page: 1_500,
    audio_second: 10,
    video_second: 300,
};
const CLAUDE: Family = Family {
    name: "claude-",
    context: 1_000_000,
    text_percent: 150,
    image: Vision::Squares { edge: 2_576, most: 4_784 },
    page: 2_800,
    audio_second: 32,
    video_second: 300,
};
/// Claude before Opus 4.7 and Sonnet 5.
const OLDER_CLAUDE: Family =
    Family { text_percent: 120, image: Vision::Squares { edge: 1_568, most: 1_568 }, page: 2_400, ..CLAUDE };
const GEMINI: Family = Family {
    name: "gemini-",
    context: 1_048_576,
    text_percent: 100,
    image: Vision::Levels,
    page: 560,
    audio_second: 32,
    video_second: 102,
};
const OLDER_GEMINI: Family = Family { image: Vision::Crops { crop: 258 }, page: 258, video_second: 295, ..GEMINI };
/// What nobody here has heard of, most of it served by its user. It looks at images as Qwen's models do and most others
/// less.
const UNKNOWN: Family = Family {
    name: "",
    context: 1_048_576,
    text_percent: 110,
    image: Vision::Squares { edge: 2_576, most: 4_784 },
    page: 1_500,
    audio_second: 32,
    video_second: 300,
};

const fn tiles(name: &'static str, context: u64, base: u64, tile: u64) -> Family {
    Family { name, context, image: Vision::Tiles { base, tile }, ..OPENAI }
}

const fn patches(name: &'static str, context: u64, percent: u64) -> Family {
    Family { name, context, image: Vision::Patches { most: 1_536, original: 1_536, percent }, ..OPENAI }
}

/// The longest name that fits counts.
const FAMILIES: [Family; 44] = [
    OPENAI,
    Family {
        name: "gpt-5.2",
        context: 400_000,
        image: Vision::Patches { most: 1_536, original: 1_536, percent: 120 },
        ..OPENAI
    },
    Family {
        name: "gpt-5.3",
        context: 400_000,
        image: Vision::Patches { most: 1_536, original: 1_536, percent: 120 },
        ..OPENAI
    },
    patches("gpt-5.4-mini", 400_000, 120),
    patches("gpt-5.4-nano", 400_000, 120),
    tiles("gpt-5-", 400_000, 70, 140),
    tiles("gpt-5.1", 400_000, 70, 140),
    patches("gpt-5-mini", 400_000, 120),
    patches("gpt-5-nano", 400_000, 150),
    tiles("gpt-4.1", 1_047_576, 85, 170),
    patches("gpt-4.1-mini", 1_047_576, 162),
    patches("gpt-4.1-nano", 1_047_576, 246),
    tiles("gpt-4.5", 128_000, 85, 170),
    tiles("gpt-4o", 128_000, 85, 170),
    tiles("gpt-4o-mini", 128_000, 2_833, 5_667),
    tiles("chatgpt-4o", 128_000, 85, 170),
    tiles("gpt-4-turbo", 128_000, 85, 170),
    tiles("gpt-4", 128_000, 85, 170),
    tiles("gpt-4-0314", 8_192, 85, 170),
    tiles("gpt-4-0613", 8_192, 85, 170),
    tiles("gpt-4-32k", 32_768, 85, 170),
    tiles("gpt-3.5", 16_385, 85, 170),
    Family { name: "gpt-oss", context: 131_072, ..UNKNOWN },
    tiles("o1", 200_000, 75, 150),
    tiles("o3", 200_000, 75, 150),
    patches("o4-mini", 200_000, 172),
    patches("codex-mini", 200_000, 172),
    tiles("computer-use", 8_192, 65, 129),
    Family { name: "text-embedding-", context: 300_000, ..OPENAI },
    CLAUDE,
    Family { name: "claude-2", context: 200_000, ..OLDER_CLAUDE },
    Family { name: "claude-3", context: 200_000, ..OLDER_CLAUDE },
    Family { name: "claude-haiku-4", context: 200_000, ..OLDER_CLAUDE },
    Family { name: "claude-sonnet-4", ..OLDER_CLAUDE },
    Family { name: "claude-opus-4", ..OLDER_CLAUDE },
    Family { name: "claude-opus-4-7", ..CLAUDE },
    Family { name: "claude-opus-4.7", ..CLAUDE },
    Family { name: "claude-opus-4-8", ..CLAUDE },
    Family { name: "claude-opus-4.8", ..CLAUDE },
    GEMINI,
    Family { name: "gemini-1", context: 2_097_152, ..OLDER_GEMINI },
    Family { name: "gemini-2", ..OLDER_GEMINI },
    Family { name: "gemma", context: 131_072, image: Vision::Crops { crop: 256 }, ..UNKNOWN },
    Family { name: "grok-", context: 2_000_000, image: Vision::Grok, ..UNKNOWN },
];

/// The family of a model; of one that is unknown or not named, what its API lets expect.
pub(super) fn family(model: Option<&str>, dialect: Dialect) -> &'static Family {
    // Vendors, clouds and fine-tuning put words of their own before a model's name.
    let model = model.unwrap_or_default();
    let begins = model.match_indices(['/', ':', '.']).map(|(at, _)| at + 1);
    let names = std::iter::once(0).chain(begins).map(|at| &model[at..]);
    let known = names.flat_map(|name| FAMILIES.iter().filter(move |family| family.is_of(name)));
    known.max_by_key(|family| family.name.len()).unwrap_or(match dialect {
        Dialect::Anthropic => &CLAUDE,
        Dialect::Gemini => &GEMINI,
        Dialect::OpenAi | Dialect::Ollama | Dialect::Other => &UNKNOWN,
    })
}

impl Family {
    fn is_of(&self, name: &str) -> bool {
        // `gpt-5` is as much of the family of `gpt-5-` as `gpt-5-pro` is, but `gpt-5.4` is not.
        name.strip_prefix(self.name).is_some() || self.name.strip_suffix('-') == Some(name)
    }

    /// Tokens of a page of a document, looked at with this detail.
    pub(super) fn page(&self, detail: Option<Detail>) -> u64 {
        match (&self.image, detail) {
            // A document is looked at with medium detail where nothing else is said.
            (Vision::Levels, Some(detail)) => level(detail),
            _ => self.page,
        }
    }
}

/// Tokens of an image at one of Gemini's resolutions.
const fn level(detail: Detail) -> u64 {
    match detail {
        Detail::Low => 280,
        Detail::Medium => 560,
        Detail::High => 1_120,
        Detail::Finest => 2_240,
    }
}

impl Vision {
    /// Tokens of an image of so many pixels.
    pub(super) fn tokens(&self, (width, height): (u64, u64), detail: Option<Detail>) -> u64 {
        let (width, height) = (width.clamp(1, PIXELS_MAX), height.clamp(1, PIXELS_MAX));
        match *self {
            Vision::Tiles { base, .. } if detail == Some(Detail::Low) => base,
            Vision::Tiles { base, tile } => {
                let (width, height) = within((width, height), 2_048);
                // The shorter side of larger ones becomes 768.
                let scale = (768.0 / width.min(height)).min(1.0);
                let tiles = covered(width * scale, 512) * covered(height * scale, 512);
                base + tile * tiles
            }
            Vision::Patches { most, original, percent } => {
                let most = if detail == Some(Detail::Finest) { original } else { most };
                (patches_of(width, height, most) * percent).div_ceil(100)
            }
            Vision::Squares { edge, most } => squares_of(width, height, edge, most),
            Vision::Crops { crop } if detail == Some(Detail::Low) => crop / 4,
            Vision::Crops { crop } if detail == Some(Detail::Medium) || width.max(height) <= 384 => crop,
            Vision::Crops { crop } => {
                let (width, height) = within((width, height), 3_072);
                let unit = (width.min(height) / 1.5).floor().clamp(256.0, 768.0);
                crop * covered(width / unit, 1) * covered(height / unit, 1)
            }
            Vision::Levels => level(detail.unwrap_or(Detail::High)),
            Vision::Grok => 256 * ((width.div_ceil(448) * height.div_ceil(448)).min(6) + 1),
        }
    }
}

/// No image that a provider takes has a longer side.
const PIXELS_MAX: u64 = 1 << 16;

/// An image scaled down, if need be, to fit into a square.
fn within((width, height): (u64, u64), edge: u64) -> (f64, f64) {
    let (width, height) = (width as f64, height as f64);
    let scale = (edge as f64 / width.max(height)).min(1.0);
    (width * scale, height * scale)
}

/// How many lengths of `unit` cover a side. What scaling leaves over by rounding is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a side is at most PIXELS_MAX long")]
fn covered(side: f64, unit: u64) -> u64 {
    (((side - 1e-6) / unit as f64).ceil() as u64).max(1)
}

/// OpenAI's patches: an image of more is shrunk until whole patches fill both of its sides.
fn patches_of(width: u64, height: u64, most: u64) -> u64 {
    const PATCH: f64 = 32.0;
    let patches = width.div_ceil(32) * height.div_ceil(32);
    if patches <= most {
        return patches;
    }
    let (width, height) = (width as f64, height as f64);
    let shrink = (PATCH * PATCH * most as f64 / (width * height)).sqrt();
    let (across, down) = (width * shrink / PATCH, height * shrink / PATCH);
    let fit = (across.floor().max(1.0) / across).min(down.floor().max(1.0) / down);
    (covered(across * fit, 1) * covered(down * fit, 1)).min(most)
}

/// Patches of 28, of an image shrunk as far as its bounds demand.
fn squares_of(width: u64, height: u64, edge: u64, most: u64) -> u64 {
    const SQUARE: u64 = 28;
    let (width, height) = within((width, height), edge);
    let squares = covered(width, SQUARE) * covered(height, SQUARE);
    if squares <= most {
        return squares;
    }
    let area = (SQUARE * SQUARE * most) as f64;
    let shrink = (area / (width * height)).sqrt();
    (covered(width * shrink, SQUARE) * covered(height * shrink, SQUARE)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(model: &str, size: (u64, u64), detail: Option<Detail>) -> u64 {
        family(Some(model), Dialect::Other).image.tokens(size, detail)
    }

    #[test]
    fn images_cost_what_their_providers_give_as_examples() {
        // From OpenAI's page on images.
        assert_eq!(tokens("gpt-4o", (1_024, 1_024), Some(Detail::High)), 765);
        assert_eq!(tokens("gpt-4o", (2_048, 4_096), None), 1_105);
        assert_eq!(tokens("gpt-4o-2024-08-06", (4_096, 8_192), Some(Detail::Low)), 85);
        assert_eq!(tokens("gpt-4.1-mini", (1_024, 1_024), None), 1_659);
        assert_eq!(tokens("gpt-4.1-mini", (1_800, 2_400), None), 2_353);
        // As measured: 432 patches.
        assert_eq!(tokens("gpt-5.4-mini", (768, 576), None), 519);
        assert_eq!(tokens("gpt-5-nano", (768, 576), None), 648);
        // From Anthropic's page on vision.
        assert_eq!(tokens("claude-opus-4-8", (1_000, 1_000), None), 1_296);
        assert_eq!(tokens("claude-sonnet-4-6", (200, 200), None), 64);
        assert_eq!(tokens("claude-sonnet-4-6", (1_092, 1_092), None), 1_521);
        assert!((1_500..=1_568).contains(&tokens("claude-haiku-4-5", (4_000, 3_000), None)));
        assert!((4_600..=4_784).contains(&tokens("claude-opus-4-7", (4_000, 3_000), None)));
        // From Google's pages on images and on resolution.
        assert_eq!(tokens("gemini-2.5-flash", (384, 384), None), 258);
        assert_eq!(tokens("gemini-2.5-flash", (960, 540), None), 6 * 258);
        assert_eq!(tokens("gemini-3-pro-preview", (4_000, 3_000), None), 1_120);
        assert_eq!(tokens("gemini-3-pro-preview", (4_000, 3_000), Some(Detail::Low)), 280);
        // From xAI's.
        assert_eq!(tokens("grok-4", (4_000, 3_000), None), 1_792);
    }

    #[test]
    fn a_model_is_known_whatever_stands_before_and_behind_its_name() {
        let context = |model: &str| family(Some(model), Dialect::OpenAi).context;
        for (model, expected) in [
            ("gpt-5", 400_000),
            ("gpt-5-2025-08-07", 400_000),
            ("gpt-5.1-codex", 400_000),
            ("gpt-5.4", 1_050_000),
            ("gpt-6", 1_050_000),
            ("gpt-4-0613", 8_192),
            ("gpt-4-1106-preview", 128_000),
            ("gpt-4o", 128_000),
            ("gpt-4.1-nano", 1_047_576),
            ("openai/gpt-4o", 128_000),
            ("ft:gpt-4o-mini:acme::x", 128_000),
            ("o3-mini", 200_000),
            ("anthropic/claude-3.5-sonnet", 200_000),
            ("us.anthropic.claude-3-haiku-20240307-v1:0", 200_000),
            ("models/gemini-1.5-pro", 2_097_152),
            ("llama3.2:3b", UNKNOWN.context),
        ] {
            assert_eq!(context(model), expected, "{model}");
        }
        for name in ["claude-opus-4-7", "anthropic/claude-opus-4.7-fast", "claude-sonnet-5"] {
            assert_eq!(family(Some(name), Dialect::OpenAi).image, CLAUDE.image, "{name}");
        }
        assert_eq!(family(None, Dialect::Anthropic), &CLAUDE);
        assert_eq!(family(Some("my-deployment"), Dialect::OpenAi), &UNKNOWN);
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        for family in &FAMILIES {
            for size in [(0, 0), (1, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
                for detail in [None, Some(Detail::Low), Some(Detail::Finest)] {
                    let tokens = family.image.tokens(size, detail);
                    assert!((1..=100_000).contains(&tokens), "{family:?} {size:?}: {tokens}");
                }
            }
        }
    }
}
