//! Prints docs/settings.md.
fn main() {
    print!("{}", tricorn_settings::render::settings_markdown());
}
