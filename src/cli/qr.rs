//! QR codes for a terminal.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// The code as text, two modules a character; `None` when `text` is too long for one.
pub(super) fn terminal(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    // Most terminals are dark: light modules are drawn, dark ones are left.
    let (dark, light) = (Dense1x2::Light, Dense1x2::Dark);
    Some(code.render::<Dense1x2>().dark_color(dark).light_color(light).quiet_zone(true).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_half_as_many_lines_as_modules() {
        let text = terminal("oc-pair").unwrap();
        assert_eq!(text.lines().count(), (21_usize + 8).div_ceil(2));
        assert!(terminal(&"x".repeat(5000)).is_none());
    }
}
