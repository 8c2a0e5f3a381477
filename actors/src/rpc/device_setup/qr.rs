//! A setup code as a picture.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcode::{Color, EcLevel, QrCode};

/// Pixels of a module.
const SCALE: usize = 6;
/// Empty modules around, without which readers don't find it.
const QUIET: usize = 4;
/// Longest address of a picture that official clients take.
const LONGEST: usize = 16_384;

/// A PNG as a `data:` address; `None` where the text is too long for one.
pub(super) fn data_url(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let url = format!("data:image/png;base64,{}", STANDARD.encode(picture(&code)?));
    (url.len() <= LONGEST).then_some(url)
}

/// One bit a pixel, and 1 is white.
fn picture(code: &QrCode) -> Option<Vec<u8>> {
    let side = (code.width() + 2 * QUIET) * SCALE;
    let mut rows = vec![0xff_u8; side * side.div_ceil(8)];
    for (index, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            let (x, y) = (index % code.width() + QUIET, index / code.width() + QUIET);
            for (x, y) in (0..SCALE * SCALE).map(|at| (x * SCALE + at % SCALE, y * SCALE + at / SCALE)) {
                rows[y * side.div_ceil(8) + x / 8] &= !(0x80 >> (x % 8));
            }
        }
    }
    let mut bytes = Vec::new();
    let pixels = u32::try_from(side).ok()?;
    let mut encoder = png::Encoder::new(&mut bytes, pixels, pixels);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().ok()?.write_image_data(&rows).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_becomes_a_png_that_is_not_too_long() {
        let url = data_url(&"x".repeat(400)).unwrap();
        let bytes = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.width, info.height);
        let modules = info.width as usize / SCALE - 2 * QUIET;
        assert_eq!(modules % 4, 1, "every QR code has 4n + 17 modules a side");
        // The corner of the first finder pattern is dark, the quiet zone is not.
        let line = info.line_size;
        assert_eq!(pixels[0], 0xff);
        assert_eq!(pixels[QUIET * SCALE * line + QUIET * SCALE / 8] & 0x80, 0);
        assert!(data_url(&"x".repeat(4000)).is_none());
    }
}
