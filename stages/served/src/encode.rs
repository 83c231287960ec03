//! An image as a request carries it.

use base64::Engine as _;
use opdflow_rewards::Image;

/// The bytes of a PNG, 8 bits a channel, sRGB.
///
/// # Errors
/// The image is not whole, or larger than a PNG can be.
pub fn png(image: &Image) -> Result<Vec<u8>, String> {
    let side = |n: usize| u32::try_from(n).map_err(|_| "an image that is larger than a PNG can be".to_owned());
    if !image.is_whole() {
        return Err("an image whose bytes do not fit its size".to_owned());
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side(image.width)?, side(image.height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(&image.rgb).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// The same in base64.
pub(crate) fn base64(image: &Image) -> Result<String, String> {
    Ok(base64_of(&png(image)?))
}

/// Bytes in base64 of the standard alphabet, with padding.
pub(crate) fn base64_of(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A digest of an image: its size and its pixels.
pub(crate) fn digest(image: &Image) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for side in [image.width, image.height] {
        hasher.update(&(side as u64).to_le_bytes());
    }
    hasher.update(&image.rgb);
    hasher.finalize()
}

/// The image of a PNG with sides of at most `most`.
///
/// # Errors
/// It is none, it is larger, or it is of another sort than 8 bits RGB.
#[cfg(feature = "server")]
pub(crate) fn read_png(bytes: &[u8], most: usize) -> Result<Image, String> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().map_err(|e| e.to_string())?;
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    if width.max(height) > most {
        return Err(format!("it is {width}x{height}; a side has at most {most} pixels"));
    }
    let sort = (reader.info().color_type, reader.info().bit_depth);
    if sort != (png::ColorType::Rgb, png::BitDepth::Eight) {
        return Err(format!("it is {:?} of {:?}; expected RGB with 8 bits a channel", sort.0, sort.1));
    }
    let mut rgb = vec![0; reader.output_buffer_size().ok_or("it is too large")?];
    reader.next_frame(&mut rgb).map_err(|e| e.to_string())?;
    Image::new(width, height, rgb).ok_or_else(|| "it has other bytes than its size".to_owned())
}
