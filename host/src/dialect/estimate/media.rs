//! What base64 holds: an image of which size, a document of how many pages, sound of how long. Only its head and its
//! tail are decoded, however long it is.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use imagesize::ImageSize;

/// So much is decoded to find the size of an image: most say it at once, a photograph behind its thumbnail and colours.
const HEADS_BYTES: [usize; 3] = [512, 64 << 10, 512 << 10];

/// In so much of its head and tail it is looked for how many pages a document has, or how long a film is.
const ENDS_BYTES: usize = 64 << 10;
/// A page of a document that does not say how many it has: between a page of text and a scanned one.
const PAGE_BYTES: u64 = 50_000;
/// Most pages that a provider takes in one document.
const PAGES_MAX: u64 = 1_000;

/// A second of sound of which neither head nor format tells more: 128 kbit/s.
const AUDIO_SECOND_BYTES: u64 = 16_000;
/// A second of sound as it comes from a microphone without any head: 24,000 samples of two bytes.
const RAW_AUDIO_SECOND_BYTES: u64 = 48_000;
/// What a second of sound without compression can take, from a telephone's to a studio's.
const PLAIN_AUDIO_SECOND_BYTES: std::ops::RangeInclusive<u64> = 500..=4_000_000;
/// A second of film that does not say how long it is: 2 Mbit/s.
const VIDEO_SECOND_BYTES: u64 = 250_000;

/// An image of which the size is not known.
const IMAGE_SIZE_DEFAULT: (u64, u64) = (1_024, 1_024);

/// What is not at hand, but kept at the provider or fetched by it, is taken for one of usual size.
pub(super) const IMAGE_ELSEWHERE: Medium = Medium::Image(IMAGE_SIZE_DEFAULT);
/// So many pages.
pub(super) const DOCUMENT_ELSEWHERE: Medium = Medium::Document(10);
/// A minute.
const AUDIO_ELSEWHERE: Medium = Medium::Audio(60_000);
/// A minute.
pub(super) const VIDEO_ELSEWHERE: Medium = Medium::Video(60_000);

/// What something is that is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// An image of this width and height.
    Image((u64, u64)),
    /// A document of so many pages.
    Document(u64),
    /// Sound of so many milliseconds.
    Audio(u64),
    /// Film of so many milliseconds.
    Video(u64),
    /// A text of so many bytes.
    Text(u64),
    /// Something else of so many bytes; it is taken for a document.
    Unknown(u64),
}

/// What a medium is said to be, without a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Document,
    Audio,
    /// Sound without a head.
    RawAudio,
    Video,
}

impl Kind {
    /// From a media type, or from what a part of a message is called that has one: `input_image`, `video/mp4`.
    pub(super) fn of(word: &str) -> Option<Kind> {
        let is = |known: &str| word.contains(known);
        if is("image") {
            Some(Kind::Image)
        } else if is("audio/pcm") || is("audio/L16") {
            Some(Kind::RawAudio)
        } else if is("audio") {
            Some(Kind::Audio)
        } else if is("video") {
            Some(Kind::Video)
        } else if is("document") || is("application/") || is("text/") || word == "input_file" {
            Some(Kind::Document)
        } else {
            None
        }
    }

    /// From the ending of a name.
    fn of_ending(ending: &str) -> Option<Kind> {
        let is = |endings: &[&str]| endings.iter().any(|known| ending.eq_ignore_ascii_case(known));
        if is(&["png", "jpg", "jpeg", "gif", "webp", "heic", "heif", "bmp"]) {
            Some(Kind::Image)
        } else if is(&["pdf", "docx", "pptx", "xlsx", "txt", "md", "csv", "html"]) {
            Some(Kind::Document)
        } else if is(&["mp3", "wav", "ogg", "opus", "flac", "m4a", "aac"]) {
            Some(Kind::Audio)
        } else if is(&["mp4", "mov", "webm", "mkv", "avi", "mpeg", "mpg"]) {
            Some(Kind::Video)
        } else {
            None
        }
    }

    /// One that is not at hand.
    pub(super) const fn elsewhere(self) -> Medium {
        match self {
            Kind::Image => IMAGE_ELSEWHERE,
            Kind::Document => DOCUMENT_ELSEWHERE,
            Kind::Audio | Kind::RawAudio => AUDIO_ELSEWHERE,
            Kind::Video => VIDEO_ELSEWHERE,
        }
    }

    /// One of so many bytes.
    pub(super) fn of_bytes(self, bytes: u64) -> Medium {
        match self {
            Kind::Image => IMAGE_ELSEWHERE,
            Kind::Document => Medium::Document(pages_of(bytes)),
            Kind::Audio => Medium::Audio(milliseconds(bytes, AUDIO_SECOND_BYTES)),
            Kind::RawAudio => Medium::Audio(milliseconds(bytes, RAW_AUDIO_SECOND_BYTES)),
            Kind::Video => Medium::Video(milliseconds(bytes, VIDEO_SECOND_BYTES)),
        }
    }
}

/// What lies elsewhere under this name, if its ending or its host tells.
pub(super) fn elsewhere(name: &str) -> Option<Medium> {
    if name.contains("://www.youtube.com/") || name.contains("://youtu.be/") {
        return Some(VIDEO_ELSEWHERE);
    }
    let path = name.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit_once('.')?;
    Kind::of_ending(ending).map(Kind::elsewhere)
}

const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a `data:` URL holds, or base64 without one. `None` for what is neither.
pub(super) fn read(text: &str) -> Option<Medium> {
    let (declared, encoded) = match data_url(text) {
        Some((declared, encoded)) => (Kind::of(declared), encoded),
        None => (None, text),
    };
    let encoded = encoded.trim_end_matches('=').as_bytes();
    let bytes = encoded.len() as u64 * 3 / 4;
    let head = decode(encoded, HEADS_BYTES[0])?;
    let found = by_head(&head, encoded, bytes).or_else(|| is_text(&head).then_some(Medium::Text(bytes)));
    Some(match (found, declared) {
        (Some(found), Some(declared)) => found.said_to_be(declared),
        (Some(found), None) => found,
        (None, Some(declared)) => declared.of_bytes(bytes),
        (None, None) => Medium::Unknown(bytes),
    })
}

impl Medium {
    /// The same, where it is said what it is: what cannot be told by its bytes, or is packed like film and has only
    /// sound.
    pub(super) fn said_to_be(self, kind: Kind) -> Medium {
        match (self, kind) {
            (Medium::Unknown(bytes), kind) => kind.of_bytes(bytes),
            (Medium::Video(ms), Kind::Audio | Kind::RawAudio) => Medium::Audio(ms),
            (found, _) => found,
        }
    }
}

/// The media type and the base64 of a `data:` URL.
pub(super) fn data_url(text: &str) -> Option<(&str, &str)> {
    let (head, encoded) = text.strip_prefix("data:")?.split_once(',')?;
    Some((head.strip_suffix(";base64")?.split(';').next()?, encoded))
}

fn by_head(head: &[u8], encoded: &[u8], bytes: u64) -> Option<Medium> {
    let lasting = |second: u64| Medium::Audio(milliseconds(bytes, second));
    if head.starts_with(b"%PDF-") {
        return Some(Medium::Document(pages(encoded).unwrap_or(pages_of(bytes))));
    }
    // What else is packed in archives: documents of an office.
    if head.starts_with(b"PK\x03\x04") {
        return Some(Medium::Document(pages_of(bytes)));
    }
    if let (Some(rest), Some(b"WAVE")) = (head.strip_prefix(b"RIFF"), head.get(8..12)) {
        return Some(lasting(wav_second(rest.get(8..).unwrap_or_default()).unwrap_or(RAW_AUDIO_SECOND_BYTES)));
    }
    if let Some(second) = mp3_second(head, encoded) {
        return Some(lasting(second));
    }
    // What is packed like film says what it is.
    match head.get(4..8).filter(|word| *word == b"ftyp").and_then(|_| head.get(8..11)) {
        Some(b"hei" | b"hev" | b"mif" | b"msf" | b"avi") | None => {}
        Some(brand) => {
            let ms = film_ms(encoded).unwrap_or(milliseconds(bytes, VIDEO_SECOND_BYTES));
            return Some(if matches!(brand, b"M4A" | b"M4B") { Medium::Audio(ms) } else { Medium::Video(ms) });
        }
    }
    if imagesize::image_type(head).is_ok() {
        let sizes = HEADS_BYTES.iter().filter_map(|length| imagesize::blob_size(&decode(encoded, *length)?).ok());
        let size = sizes.map(|ImageSize { width, height }| (width as u64, height as u64)).next();
        return Some(Medium::Image(size.unwrap_or(IMAGE_SIZE_DEFAULT)));
    }
    Some(match head {
        [b'f', b'L', b'a', b'C', ..] => flac_ms(head).map_or(lasting(AUDIO_SECOND_BYTES), Medium::Audio),
        [b'O', b'g', b'g', b'S', ..] => ogg_ms(head, encoded).map_or(lasting(AUDIO_SECOND_BYTES), Medium::Audio),
        [b'F', b'O', b'R', b'M', ..] => lasting(RAW_AUDIO_SECOND_BYTES),
        [0xFF, 0xF1 | 0xF9, ..] => lasting(AUDIO_SECOND_BYTES),
        [0x1A, 0x45, 0xDF, 0xA3, ..] => Medium::Video(milliseconds(bytes, VIDEO_SECOND_BYTES)),
        _ => return None,
    })
}

/// How many pages a document of so many bytes may have.
fn pages_of(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES).min(PAGES_MAX)
}

/// How long so many bytes last, of which each second takes so many.
fn milliseconds(bytes: u64, second_bytes: u64) -> u64 {
    bytes.saturating_mul(1_000).div_ceil(second_bytes.max(1))
}

/// A number in a file.
fn number<const N: usize, T>(bytes: &[u8], at: usize, read: fn([u8; N]) -> T) -> Option<T> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok().map(read)
}

/// How many bytes of a WAV are a second, by the chunk that describes its format. Some writers put others before it.
fn wav_second(mut chunks: &[u8]) -> Option<u64> {
    while !chunks.starts_with(b"fmt ") {
        let length = number(chunks, 4, u32::from_le_bytes)? as usize;
        chunks = chunks.get(length.checked_add(8)?.next_multiple_of(2)..)?;
    }
    number(chunks, 16, u32::from_le_bytes).map(u64::from).filter(|second| PLAIN_AUDIO_SECOND_BYTES.contains(second))
}

/// How long a FLAC is: its samples and their rate stand in its first block. RFC 9639, section 8.2.
fn flac_ms(head: &[u8]) -> Option<u64> {
    let described = number(head, 18, u64::from_be_bytes)?;
    let (rate, samples) = (described >> 44, described & 0xF_FFFF_FFFF);
    (rate > 0 && samples > 0).then(|| samples.saturating_mul(1_000) / rate)
}

/// How long an Ogg is: its last page says how many samples there were until then. RFC 3533, section 6; Opus counts
/// 48,000 a second (RFC 7845, section 4), Vorbis as many as it says.
fn ogg_ms(head: &[u8], encoded: &[u8]) -> Option<u64> {
    let rate = match memchr::memmem::find(head, b"\x01vorbis") {
        Some(at) => u64::from(number(head, at + 12, u32::from_le_bytes)?),
        None => 48_000,
    };
    let tail = tail(encoded)?;
    let samples = number(&tail, memchr::memmem::rfind(&tail, b"OggS")? + 6, u64::from_le_bytes)?;
    (rate > 0 && samples < u64::MAX / 1_000).then(|| samples * 1_000 / rate).filter(|ms| *ms > 0)
}

/// How long a film is, where its index stands in its head or tail: ISO 14496-12, section 8.2.2.
fn film_ms(encoded: &[u8]) -> Option<u64> {
    [decode(encoded, ENDS_BYTES)?, tail(encoded)?].iter().find_map(|end| {
        let index = &end[memchr::memmem::find(end, b"mvhd")? + 4..];
        let (unit, length) = match index.first()? {
            0 => (number(index, 12, u32::from_be_bytes)?, u64::from(number(index, 16, u32::from_be_bytes)?)),
            _ => (number(index, 20, u32::from_be_bytes)?, number(index, 24, u64::from_be_bytes)?),
        };
        length.checked_mul(1_000)?.checked_div(u64::from(unit)).filter(|ms| *ms > 0)
    })
}

/// How many bytes of an MP3 are a second, by its first frame behind what it says of its title. It is layer III, of MPEG
/// 1 or of its slower successors: ISO 11172-3, section 2.4.2.3, and ISO 13818-3.
fn mp3_second(head: &[u8], encoded: &[u8]) -> Option<u64> {
    const KILOBITS: [u64; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const SLOWER_KILOBITS: [u64; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let frame = |bytes: &[u8]| {
        let (sync, slower) = (bytes.first() == Some(&0xFF), bytes.get(1)? & 0b1111_1110);
        let table = match (sync, slower) {
            (true, 0b1111_1010) => KILOBITS,
            (true, 0b1111_0010 | 0b1110_0010) => SLOWER_KILOBITS,
            _ => return None,
        };
        let rate = usize::from(bytes.get(2)? >> 4).checked_sub(1)?;
        table.get(rate).map(|kilobits| kilobits * 1_000 / 8)
    };
    if !head.starts_with(b"ID3") {
        return frame(head);
    }
    // Its length is written in groups of seven bits.
    let groups = head.get(6..10)?;
    let title = groups.iter().fold(0, |length, group| length << 7 | usize::from(group & 0x7F)) + 10;
    // Three bytes are four characters.
    let from = encoded.get(title / 3 * 4..).unwrap_or_default();
    let behind = decode(from, 16).unwrap_or_default();
    frame(behind.get(title % 3..).unwrap_or_default()).or(Some(AUDIO_SECOND_BYTES))
}

/// How many pages a PDF says that it has, where it says so in the open: in what makes it fit for the web, or in the
/// root of its pages.
fn pages(encoded: &[u8]) -> Option<u64> {
    let (head, tail) = (decode(encoded, ENDS_BYTES)?, tail(encoded)?);
    let linearized = memchr::memmem::find(&head, b"/Linearized").map(|at| &head[at..]);
    let linearized = linearized.and_then(|behind| numbers_behind(&behind[..behind.len().min(256)], b"/N").next());
    linearized.or_else(|| [&head, &tail].into_iter().filter_map(|end| root_count(end)).max())
}

/// What the root of a PDF's pages counts. What is below it counts a part, and bookmarks something else.
fn root_count(text: &[u8]) -> Option<u64> {
    let counts = memchr::memmem::find_iter(text, b"/Count").filter_map(|at| {
        let from = memchr::memmem::rfind(&text[..at], b"<<")?;
        let length = memchr::memmem::find(&text[at..], b">>")?;
        let dictionary = &text[from..at + length];
        let has = |word: &[u8]| memchr::memmem::find(dictionary, word).is_some();
        (has(b"/Pages") && !has(b"/Parent")).then(|| numbers_behind(&text[at..at + length], b"/Count").next())?
    });
    counts.max()
}

/// The last bytes that base64 stands for.
fn tail(encoded: &[u8]) -> Option<Vec<u8>> {
    let from = encoded.len().saturating_sub(ENDS_BYTES / 3 * 4) / 4 * 4;
    decode(&encoded[from..], ENDS_BYTES)
}

/// The positive numbers that stand behind a word.
fn numbers_behind<'t>(text: &'t [u8], word: &'t [u8]) -> impl Iterator<Item = u64> + 't {
    memchr::memmem::find_iter(text, word).filter_map(move |at| {
        let behind = text[at + word.len()..].trim_ascii_start();
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        str::from_utf8(&behind[..digits]).ok()?.parse().ok().filter(|number| (1..=PAGES_MAX).contains(number))
    })
}

fn is_text(head: &[u8]) -> bool {
    let whole = match str::from_utf8(head) {
        Ok(_) => true,
        // The last character may be cut.
        Err(error) => error.error_len().is_none(),
    };
    whole && !head.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

/// The first bytes that base64 stands for, in either of its alphabets and with or without line ends. `None` for what is
/// not base64.
fn decode(encoded: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let characters = encoded.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    let mut beginning: Vec<u8> = characters.take(bytes_max.div_ceil(3) * 4).collect();
    // A last character alone is no byte.
    if beginning.len() % 4 == 1 {
        beginning.pop();
    }
    DECODER.decode(beginning).ok().filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    fn png(width: u32, height: u32, bytes: usize) -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend(width.to_be_bytes());
        png.extend(height.to_be_bytes());
        png.resize(png.len() + bytes, 7);
        png
    }

    /// A photograph with `before` bytes of something else before its size.
    fn jpeg(width: u16, height: u16, mut before: usize) -> Vec<u8> {
        let mut jpeg = vec![0xFF, 0xD8];
        while before > 0 {
            let part = before.min(65_000);
            jpeg.extend([0xFF, 0xE1]);
            jpeg.extend(u16::try_from(part + 2).expect("short").to_be_bytes());
            jpeg.resize(jpeg.len() + part, 1);
            before -= part;
        }
        jpeg.extend([0xFF, 0xC0, 0, 17, 8]);
        jpeg.extend(height.to_be_bytes());
        jpeg.extend(width.to_be_bytes());
        jpeg.extend([3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1]);
        jpeg.resize(jpeg.len() + 30_000, 9);
        jpeg
    }

    fn wav(seconds: u32, bytes_a_second: u32) -> Vec<u8> {
        let data = seconds * bytes_a_second;
        let mut wav = b"RIFF".to_vec();
        wav.extend((36 + data).to_le_bytes());
        wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        wav.extend((bytes_a_second / 2).to_le_bytes());
        wav.extend(bytes_a_second.to_le_bytes());
        wav.extend(b"\x02\0\x10\0data");
        wav.extend(data.to_le_bytes());
        wav.resize(wav.len() + data as usize, 0);
        wav
    }

    fn of(bytes: &[u8]) -> Option<Medium> {
        read(&BASE64_STANDARD.encode(bytes))
    }

    #[test]
    fn an_images_size_is_read_from_its_first_bytes_in_every_format() {
        let gif = [&b"GIF89a\x20\x03\x58\x02"[..], &[0; 200]].concat();
        let webp = [&b"RIFF\x40\x00\x00\x00WEBPVP8X\x0a\0\0\0\0\0\0\0\x1f\x03\0\x57\x02\0"[..], &[0; 200]].concat();
        for image in [png(800, 600, 99_000), jpeg(800, 600, 0), jpeg(800, 600, 300_000), gif, webp] {
            assert_eq!(of(&image), Some(Medium::Image((800, 600))), "{:?}", &image[..12]);
            let for_urls = BASE64_URL_SAFE_NO_PAD.encode(&image);
            assert_eq!(read(&for_urls), Some(Medium::Image((800, 600))));
            assert_eq!(read(&format!("data:image/any;base64,{for_urls}")), Some(Medium::Image((800, 600))));
        }
        let in_lines =
            BASE64_STANDARD.encode(png(800, 600, 999)).as_bytes().chunks(76).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let in_lines = String::from_utf8(in_lines.join(&b"\r\n"[..])).expect("text");
        assert_eq!(read(&in_lines), Some(Medium::Image((800, 600))));
        assert_eq!(read("data:image/svg+xml;base64,AAAA"), Some(Medium::Image(IMAGE_SIZE_DEFAULT)));
    }

    #[test]
    fn sound_is_as_long_as_its_bytes_and_its_rate_say() {
        assert_eq!(of(&wav(12, 48_000)), Some(Medium::Audio(12_001)), "the head takes a moment");
        assert_eq!(of(&wav(12, 8_000)), Some(Medium::Audio(12_006)));
        let mut recorded = wav(12, 48_000);
        recorded.splice(12..12, b"JUNK\x1c\0\0\0".iter().copied().chain([0; 28]));
        assert_eq!(of(&recorded), Some(Medium::Audio(12_002)), "others before the format");
        let mp3 = |head: &[u8], kilobits: usize| [head, &vec![0; 10 * kilobits * 125 - head.len()]].concat();
        assert_eq!(of(&mp3(b"\xFF\xFB\x90\x00", 128)), Some(Medium::Audio(10_000)));
        assert_eq!(of(&mp3(b"\xFF\xF3\x40\x00", 32)), Some(Medium::Audio(10_000)));
        let titled = [&b"ID3\x04\0\0\0\0\x01\x00"[..], &[b't'; 128], b"\xFF\xFB\x50\x00"].concat();
        assert_eq!(of(&mp3(&titled, 64)), Some(Medium::Audio(10_000)));
        let page = |samples: u64| [&b"OggS\0\0"[..], &samples.to_le_bytes(), b"OpusHead"].concat();
        let voice = [page(0), vec![1; 30_000], page(480_000), vec![1; 100]].concat();
        assert_eq!(of(&voice), Some(Medium::Audio(10_000)));
        let described = (44_100u64 << 44) | (441_000 & 0xF_FFFF_FFFF);
        let flac = [&b"fLaC\0\0\0\x22"[..], &[0; 10], &described.to_be_bytes(), &[9; 999_999]].concat();
        assert_eq!(of(&flac), Some(Medium::Audio(10_000)));
        let raw = BASE64_STANDARD.encode(vec![0xFE; 480_000]);
        assert_eq!(read(&format!("data:audio/pcm;rate=24000;base64,{raw}")), Some(Medium::Audio(10_000)));
    }

    #[test]
    fn a_film_is_as_long_as_its_index_says_wherever_that_stands() {
        let index = |ms: u32| [&b"mvhd\0\0\0\0"[..], &[0; 8], &1_000u32.to_be_bytes(), &ms.to_be_bytes()].concat();
        let filler = vec![0; 300_000];
        let film = [&b"\0\0\0\x18ftypmp42"[..], &filler, &index(90_000)].concat();
        assert_eq!(of(&film), Some(Medium::Video(90_000)));
        let only_sound = format!("data:audio/mp4;base64,{}", BASE64_STANDARD.encode(film));
        assert_eq!(read(&only_sound), Some(Medium::Audio(90_000)));
    }

    #[test]
    fn a_document_has_the_pages_that_it_says_or_as_many_as_its_size_lets_expect() {
        let filler = vec![b'x'; 400_000];
        let part = &b"<</Type/Pages/Parent 1 0 R/Kids[1 0 R]/Count 30>>"[..];
        let bookmarks = &b"<</Type/Outlines/Count 60>>"[..];
        let root = &b"<</Type /Pages /Count 12 /Kids [7 0 R]>>"[..];
        let at_the_end = [b"%PDF-1.4\n", &filler[..], part, bookmarks, root].concat();
        assert_eq!(of(&at_the_end), Some(Medium::Document(12)));
        let at_the_start = [&b"%PDF-1.7\n<</Type/Pages/Count 7>>"[..], &filler].concat();
        assert_eq!(of(&at_the_start), Some(Medium::Document(7)));
        let for_the_web = [&b"%PDF-1.7\n<</Linearized 1/L 400123/O 9/N 31/T 399>>"[..], &filler, b"/Count 5"].concat();
        assert_eq!(of(&for_the_web), Some(Medium::Document(31)));
        let silent = [&b"%PDF-1.7\n"[..], &filler, part].concat();
        assert_eq!(of(&silent), Some(Medium::Document(9)));
        assert_eq!(of(&[&b"PK\x03\x04"[..], &filler].concat()), Some(Medium::Document(9)));
    }

    #[test]
    fn what_is_something_else_is_known_by_its_length_and_by_what_is_said_of_it() {
        assert_eq!(of(b"a plain text, as it is sent inline at times"), Some(Medium::Text(43)));
        assert_eq!(of(&[&b"\0\0\0\x18ftypmp42"[..], &[0; 499_988]].concat()), Some(Medium::Video(2_000)));
        assert_eq!(of(&[0xFE; 300]), Some(Medium::Unknown(300)));
        assert_eq!(Medium::Unknown(500_000).said_to_be(Kind::Video), Medium::Video(2_000));
        assert_eq!(
            Medium::Image((1, 1)).said_to_be(Kind::Video),
            Medium::Image((1, 1)),
            "what it shows counts for more"
        );
        assert_eq!(read("what is no base64 at all"), None);
        assert_eq!(read("https://example.org/cat.png"), None);
        assert_eq!(read(""), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(head in 0usize..9, mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let heads: [&[u8]; 9] = [b"", b"\x89PNG\r\n\x1a\n", b"\xFF\xD8\xFF", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"RIFF\0\0\0\0WAVE", b"%PDF-", b"ID3", b"\0\0\0\x18ftypheic"];
            bytes.splice(0..0, heads[head].iter().copied());
            let _ = of(&bytes);
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
