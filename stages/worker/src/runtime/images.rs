//! Images as tensors, for rewards and in files.

use anyhow::{Context as _, Result, ensure};
use opdflow_ranks::Ranks;
use opdflow_rewards::Image;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Decoded images, `[B, 3, H, W]` in `[-1, 1]`, as 8-bit RGB: `round(255 (x + 1) / 2)`, cut to the range.
#[must_use]
pub fn from_tensor(images: &Tensor) -> Vec<Image> {
    let size = images.size();
    let (height, width) = (size[2] as usize, size[3] as usize);
    let bytes = ((images.to_kind(Kind::Float) + 1.0) * 127.5).round().clamp(0.0, 255.0);
    let bytes = bytes.permute([0, 2, 3, 1]).contiguous().to_kind(Kind::Uint8).to_device(Device::Cpu);
    let mut flat = vec![0_u8; size[0] as usize * height * width * 3];
    let count = flat.len();
    bytes.view([-1]).copy_data_u8(&mut flat, count);
    flat.chunks_exact(height * width * 3).filter_map(|rgb| Image::new(width, height, rgb.to_vec())).collect()
}

/// The images of all processes, in their order; `device` is where tensors travel.
///
/// # Errors
/// Another process is gone.
pub fn gathered(own: Vec<Image>, ranks: Ranks, device: Device) -> Result<Vec<Image>> {
    if ranks.world() == 1 {
        return Ok(own);
    }
    let mut bytes = Vec::new();
    for image in &own {
        for side in [image.width, image.height] {
            bytes.extend((side as u64).to_le_bytes());
        }
        bytes.extend(&image.rgb);
    }
    drop(own);
    let mut images = Vec::new();
    for part in ranks.gather_bytes(&bytes, device)? {
        let mut rest = part.as_slice();
        while let Some((head, more)) = rest.split_at_checked(16) {
            let side = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).map_or(0, |n| n as usize);
            let (width, height) = (side(0), side(8));
            let (rgb, more) = more.split_at_checked(width * height * 3).context("an image that ends too early")?;
            images.push(Image::new(width, height, rgb.to_vec()).context("an image of the wrong length")?);
            rest = more;
        }
    }
    Ok(images)
}

/// 8-bit images of one size as `[B, 3, H, W]` f32 in `[-1, 1]`.
pub fn to_tensor(images: &[Image]) -> Tensor {
    let Some(first) = images.first() else { return Tensor::zeros([0, 3, 0, 0], (Kind::Float, Device::Cpu)) };
    let flat: Vec<u8> = images.iter().flat_map(|p| p.rgb.iter().copied()).collect();
    let shape = [images.len() as i64, first.height as i64, first.width as i64, 3];
    Tensor::from_slice(&flat).view(shape).permute([0, 3, 1, 2]).to_kind(Kind::Float) / 127.5 - 1.0
}

/// Writes a PNG.
///
/// # Errors
/// The disk is full.
pub fn write_png(path: &Path, image: &Image) -> Result<()> {
    let image = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb.clone())
        .context("an image of the wrong length")?;
    // `save` goes by the ending; artefacts have none.
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png)?;
    std::fs::write(path, bytes.into_inner()).with_context(|| format!("writing {}", path.display()))
}

/// Writes a PNG with texts that viewers and libraries show (`Image.text` of Pillow): keyword and words. What was at
/// `path` is replaced at once or not at all.
///
/// # Errors
/// The disk is full.
pub fn write_png_with(path: &Path, image: &Image, texts: &[(&str, String)]) -> Result<()> {
    ensure!(image.is_whole(), "an image of the wrong length");
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    for (keyword, words) in texts {
        // International text: prompts are of any language. It cannot hold a zero byte.
        encoder.add_itxt_chunk((*keyword).to_owned(), words.replace('\0', ""))?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.rgb)?;
    writer.finish()?;
    let part = path.with_extension("png.part");
    std::fs::write(&part, bytes).with_context(|| format!("writing {}", part.display()))?;
    std::fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

/// The largest side of an image of the user's, in pixels.
const LARGEST: u32 = 1 << 14;

/// Reads an image of the user's: PNG, JPEG or WebP, by its content and not by its name. Transparency is left out.
///
/// # Errors
/// The file cannot be read, is none of these, or has a side above 16384 pixels.
pub fn read(path: &Path) -> Result<Image> {
    let shown = path.display();
    let file = opdflow_io::file::open(path).with_context(|| format!("reading {shown}"))?;
    let mut reader = image::ImageReader::new(std::io::BufReader::new(file))
        .with_guessed_format()
        .with_context(|| format!("reading {shown}"))?;
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(LARGEST), Some(LARGEST));
    reader.limits(limits);
    let image = reader.decode().with_context(|| format!("{shown} is no image that can be read"))?.to_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    Image::new(width, height, image.into_raw()).with_context(|| format!("{shown} has the wrong length"))
}

/// Reads a PNG.
///
/// # Errors
/// The file cannot be read or is not a PNG.
pub fn read_png(path: &Path) -> Result<Image> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let image = image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)
        .with_context(|| format!("{} is not a PNG", path.display()))?
        .to_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let image = Image::new(width, height, image.into_raw());
    ensure!(image.is_some(), "{} has the wrong length", path.display());
    image.context("unreachable: the length was just checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let rgb: Vec<u8> = (0..2 * 3 * 3).map(|i| (i * 13) as u8).collect();
        let image = Image::new(2, 3, rgb).unwrap();
        let tensor = to_tensor(&[image.clone(), image.clone()]);
        assert_eq!(tensor.size(), [2, 3, 3, 2]);
        assert_eq!(from_tensor(&tensor), [image.clone(), image.clone()]);
        let folder = tempfile::tempdir().unwrap();
        write_png(&folder.path().join("p"), &image).unwrap();
        assert_eq!(read_png(&folder.path().join("p")).unwrap(), image);
        let path = folder.path().join("q.png");
        write_png_with(&path, &image, &[("prompt", "\u{4f60}\u{597d}".to_owned())]).unwrap();
        assert_eq!(read_png(&path).unwrap(), image);
        let read = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&path).unwrap())).read_info().unwrap();
        let text = &read.info().utf8_text[0];
        assert_eq!((text.keyword.as_str(), text.get_text().unwrap().as_str()), ("prompt", "\u{4f60}\u{597d}"));
    }
}
